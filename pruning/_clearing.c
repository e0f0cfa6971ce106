/* Zero in place what a mask does not keep of float32 values: `pruning.enforcement.clear`, compiled.

   Masking the gradient of a small layer takes torch longer than it need: the backward pass has
   driven its code out of the caches, and it reads a mask as wide as the weights. Here a mask is a
   bit a weight, in one plain loop. pip builds this where it finds a C compiler that knows the
   vectors of GCC and Clang, and leaves it out elsewhere: the bits that result are the same. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef int32_t four __attribute__((vector_size(16), aligned(4), may_alias));

enum { AHEAD = 512 }; /* values: two kilobytes, over the page that the processor stays in */

/* Bit k of byte b keeps value 8 b + k. The last byte may be half used. */
static void clear_plain(int32_t *values, const uint8_t *kept, Py_ssize_t count)
{
    const four low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
    Py_ssize_t at = 0;
    for (; at + 8 <= count; at += 8) {
        __builtin_prefetch(values + at + AHEAD, 1);
        const int32_t byte = kept[at / 8];
        const four bits = {byte, byte, byte, byte};
        *(four *)(values + at) &= (bits & low) == low;
        *(four *)(values + at + 4) &= (bits & high) == high;
    }
    for (; at < count; at++)
        values[at] &= -(kept[at / 8] >> at % 8 & 1);
}

#ifdef __x86_64__
#include <immintrin.h>

/* As above, eight values at once. */
__attribute__((target("avx2"))) static void
clear_avx2(int32_t *values, const uint8_t *kept, Py_ssize_t count)
{
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    Py_ssize_t at = 0;
    for (; at + 8 <= count; at += 8) {
        __m256i *eight = (__m256i *)(values + at);
        const __m256i bits = _mm256_and_si256(_mm256_set1_epi32(kept[at / 8]), each);
        __builtin_prefetch(values + at + AHEAD, 1);
        _mm256_storeu_si256(
            eight, _mm256_and_si256(_mm256_loadu_si256(eight), _mm256_cmpeq_epi32(bits, each)));
    }
    clear_plain(values + at, kept + at / 8, count - at);
}
#endif

typedef void loop(int32_t *, const uint8_t *, Py_ssize_t);

static loop *best = clear_plain;

static PyObject *run(loop *chosen, PyObject *const *given, Py_ssize_t arguments)
{
    if (arguments != 3)
        return PyErr_Format(PyExc_TypeError, "clear takes values, kept and count");
    int32_t *values = PyLong_AsVoidPtr(given[0]);
    const uint8_t *kept = PyLong_AsVoidPtr(given[1]);
    const Py_ssize_t count = PyLong_AsSsize_t(given[2]);
    if (PyErr_Occurred())
        return NULL;
    if (count > 0 && (values == NULL || kept == NULL)) /* a tensor may stand for zeros without any */
        return PyErr_Format(PyExc_ValueError, "clear was given no memory");
    chosen(values, kept, count);
    Py_RETURN_NONE;
}

#define FUNCTION(name, chosen)                                                                     \
    static PyObject *name(PyObject *module, PyObject *const *given, Py_ssize_t arguments)          \
    {                                                                                              \
        (void)module;                                                                              \
        return run(chosen, given, arguments);                                                      \
    }

FUNCTION(clear, best)
FUNCTION(plain, clear_plain) /* for tests and benchmarks on a processor that has more */

#define ENTRY(name, told) {#name, (PyCFunction)(void (*)(void))name, METH_FASTCALL, told}

static PyMethodDef functions[] = {
    ENTRY(clear, "clear(values, kept, count): zero the float32 values, at an address, without a bit."),
    ENTRY(plain, "The same without AVX2."),
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "pruning._clearing", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__clearing(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2"))
        best = clear_avx2;
#endif
    return PyModuleDef_Init(&definition);
}
