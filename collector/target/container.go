package target

// ContainerID returns the full ID of the container that a process runs in, from
// the content of its /proc/PID/cgroup; "" if it runs in none.
func ContainerID(cgroup []byte) string { return parseCgroup(cgroup).container }
