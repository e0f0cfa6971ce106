/* Zero in place what a mask does not keep of float32 values: `pruning.enforcement.clear`, compiled.

   Masking the gradient of a small layer takes torch longer than it need: the backward pass has
   driven its code out of the caches, and it reads a mask as wide as the weights. Here a mask is a
   bit a weight, in one plain loop. pip builds this where it finds a C compiler that knows the
   vectors of GCC and Clang, and leaves it out elsewhere: the bits that result are the same. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <stdint.h>

typedef int32_t four __attribute__((vector_size(16), aligned(4), may_alias));

/* Bit k of byte b keeps value 8 b + k. The last byte may be half used. */
static void clear_plain(int32_t *values, const uint8_t *kept, Py_ssize_t count)
{
    const four low = {1, 2, 4, 8}, high = {16, 32, 64, 128};
    Py_ssize_t at = 0;
    for (; at + 8 <= count; at += 8) {
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
#include <string.h>

enum { AHEAD = 512 }; /* values: two kilobytes, over the page that the processor stays in */

/* As above, with instructions that take sixteen bits of the mask as they are. */
__attribute__((target("avx512f"))) static void
clear_avx512(int32_t *values, const uint8_t *kept, Py_ssize_t count)
{
    Py_ssize_t at = 0;
    for (; at + 16 <= count; at += 16) {
        uint16_t bits;
        memcpy(&bits, kept + at / 8, sizeof bits);
        __builtin_prefetch(values + at + AHEAD, 1);
        _mm512_storeu_si512(values + at, _mm512_maskz_loadu_epi32(bits, values + at));
    }
    clear_plain(values + at, kept + at / 8, count - at);
}
#endif

static void (*clear_best)(int32_t *, const uint8_t *, Py_ssize_t) = clear_plain;

static PyObject *clear(PyObject *module, PyObject *const *given, Py_ssize_t arguments)
{
    (void)module;
    if (arguments != 3)
        return PyErr_Format(PyExc_TypeError, "clear takes values, kept and count");
    int32_t *values = PyLong_AsVoidPtr(given[0]);
    const uint8_t *kept = PyLong_AsVoidPtr(given[1]);
    const Py_ssize_t count = PyLong_AsSsize_t(given[2]);
    if (PyErr_Occurred())
        return NULL;
    if (count > 0 && (values == NULL || kept == NULL)) /* a tensor may stand for zeros without any */
        return PyErr_Format(PyExc_ValueError, "clear was given no memory");
    clear_best(values, kept, count);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    {"clear", (PyCFunction)(void (*)(void))clear, METH_FASTCALL,
     "clear(values, kept, count): zero the float32 values at an address that no bit keeps."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "pruning._clearing", NULL, 0, functions, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__clearing(void)
{
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f"))
        clear_best = clear_avx512;
#endif
    return PyModuleDef_Init(&definition);
}
