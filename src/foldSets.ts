import { t } from '@grafana/i18n';

const set = (value: string, label: string, description: string) => ({ value, label, description });

/** The sets of framework functions that a flame graph can fold; pkg/profile/view has their regular expressions. */
export function foldSets() {
  const byFile = t('fold-sets.by-file', 'By file; Flameline servers only');
  return [
    set(
      'go-runtime',
      t('fold-sets.go-runtime', 'Go runtime'),
      t('fold-sets.go-runtime-functions', 'Scheduler, allocator and garbage collector')
    ),
    set(
      'jvm-internals',
      t('fold-sets.jvm-internals', 'JVM internals'),
      t('fold-sets.jvm-internals-functions', 'Reflection, executors, compiler and garbage collector')
    ),
    set('spring', 'Spring', 'org.springframework'),
    set('netty', 'Netty', 'io.netty'),
    set('tomcat', 'Tomcat', t('fold-sets.tomcat-functions', 'Catalina, Coyote and Jasper')),
    set('python-stdlib', t('fold-sets.python-stdlib', 'Python standard library'), byFile),
    set('asyncio', 'Python asyncio', byFile),
    set(
      'node-internals',
      t('fold-sets.node-internals', 'Node.js internals'),
      t('fold-sets.node-internals-functions', 'node: modules, V8 and libuv; Flameline servers only')
    ),
    set(
      'rust-std',
      t('fold-sets.rust-std', 'Rust standard library'),
      t('fold-sets.rust-std-functions', 'std, core, alloc and tokio')
    ),
    set('kernel', t('fold-sets.kernel', 'Kernel'), t('fold-sets.by-binary', 'By binary; Flameline servers only')),
  ];
}
