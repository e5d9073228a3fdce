// Package java records allocations, objects in use and contended locks of the JVMs on
// this machine, without restarting or changing them. It finds HotSpot processes in
// procfs, attaches to each as jcmd does, and has it record: with async-profiler if a
// library is configured, else with the JDK's own flight recorder. Finished parts of the
// recordings are read every interval and stored as profiles.
//
// Processes that opt out by their environment (FLAMELINE_JAVA=off), and those that
// somebody else profiles already, are left alone.
//
// Reading recordings is left to the function Decode, the labels of a process to the
// function Labels, and storing to the Appender. CPU time is sampled by package sample,
// which attaches to nothing.
package java
