//! Namespaces, overlay mounts, cgroups, seccomp and device nodes around one game.
