/* EZ_VECTOR_LOOP before a loop: its iterations are independent even where input and output are the same array, element on
 * element. Without it the compiler tests for overlap at run time and takes scalar code for every step that works in place. */
#ifndef EDGEZIP_ISA_VECTOR_H
#define EDGEZIP_ISA_VECTOR_H

#if defined(__clang__)
#define EZ_VECTOR_LOOP _Pragma("clang loop vectorize(assume_safety)")
#elif defined(__GNUC__)
#define EZ_VECTOR_LOOP _Pragma("GCC ivdep")
#else
#define EZ_VECTOR_LOOP
#endif

#endif
