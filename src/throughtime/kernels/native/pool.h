// The threads that all loops share.
#pragma once

// Calls work(argument, part) for part = 0 ... parts - 1, one part on the calling thread, and returns when all are done.
// Denormal numbers count as zero inside. Where a thread cannot be had, the calling thread does its part too.
void run_parallel(void (*work)(void *, long), void *argument, long parts);

// Called once, before any work: the address of `GOMP_parallel` in the OpenMP runtime of the process, or null.
void use_team(void *gomp_parallel);
