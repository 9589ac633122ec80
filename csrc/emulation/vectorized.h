// Lets the compiler vectorise a function for each instruction set, one of which the loader chooses.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define EFFICIENTAD_VECTORIZED __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define EFFICIENTAD_VECTORIZED
#endif
