/** The sets of framework functions that a flame graph can fold; pkg/profile/view has their regular expressions. */
export const FOLD_SETS = [
  { value: 'go-runtime', label: 'Go runtime', description: 'Scheduler, allocator and garbage collector' },
  { value: 'jvm-internals', label: 'JVM internals', description: 'Reflection, executors, compiler and garbage collector' },
  { value: 'spring', label: 'Spring', description: 'org.springframework' },
  { value: 'netty', label: 'Netty', description: 'io.netty' },
  { value: 'tomcat', label: 'Tomcat', description: 'Catalina, Coyote and Jasper' },
  { value: 'python-stdlib', label: 'Python standard library', description: 'By file; Flameline servers only' },
  { value: 'asyncio', label: 'Python asyncio', description: 'By file; Flameline servers only' },
  { value: 'node-internals', label: 'Node.js internals', description: 'node: modules, V8 and libuv; Flameline servers only' },
  { value: 'rust-std', label: 'Rust standard library', description: 'std, core, alloc and tokio' },
  { value: 'kernel', label: 'Kernel', description: 'By binary; Flameline servers only' },
];
