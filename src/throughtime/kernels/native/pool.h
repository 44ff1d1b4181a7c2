// The threads that all loops share.
#pragma once

// Calls work(argument, part) for part = 0 ... parts - 1, one part on the calling thread, and returns when all are done.
// Denormal numbers count as zero inside. Where a thread cannot be had, the calling thread does its part too.
void run_parallel(void (*work)(void *, long), void *argument, long parts);

// Calls work(argument, piece) for piece = 0 ... pieces - 1: a thread takes the next when it is done with one.
void run_pieces(void (*work)(void *, long), void *argument, long pieces, long threads);

// Calls work(argument, chain, link) for all chains and links: those of a chain one after the other, on any thread, and a
// thread that gets free takes the next link of the chain that is furthest behind. So a thread that shares its core with
// another process does less, and none waits for it before the end.
void run_chains(void (*work)(void *, long, long), void *argument, long chains, long links, long threads);

// Into how many chains to cut the rows of a batch: more than there are threads, so that one that gets free finds work, but
// few, since a chain reads the weights anew for every few rows.
long chains_of(long batch, long threads);

// Called once, before any work: the address of `GOMP_parallel` in the OpenMP runtime of the process, or null.
void use_team(void *gomp_parallel);
