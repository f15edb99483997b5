/* Floating point. Only operations whose results IEEE 754 fixes to the bit. */
#include "micro.h"

#include <math.h>
#include <string.h>

static uint64_t mix_double(uint64_t sum, double value)
{
	uint64_t bits;

	memcpy(&bits, &value, 8);
	return mix(sum, bits);
}

/* --- scalar: planets, in double --- */

#define BODIES 5

#define NBODY(name, real, root)                                                                                        \
	static uint64_t name(uint64_t rounds)                                                                          \
	{                                                                                                              \
		static const double start[BODIES][7] = {                                                               \
			{ 0, 0, 0, 0, 0, 0, 39.47 },                                                                   \
			{ 4.84, -1.16, -0.10, 0.60, 2.81, -0.02, 0.037 },                                              \
			{ 8.34, 4.12, -0.4, -1.01, 1.82, 0.008, 0.011 },                                               \
			{ 12.8, -15.1, -0.22, 1.08, 0.86, -0.01, 0.0017 },                                             \
			{ 15.3, -25.9, 0.17, 0.97, 0.59, -0.03, 0.002 },                                               \
		};                                                                                                     \
		real b[BODIES][7];                                                                                     \
		uint64_t sum = 0;                                                                                      \
                                                                                                                       \
		for (int i = 0; i < BODIES; i++)                                                                       \
			for (int k = 0; k < 7; k++)                                                                    \
				b[i][k] = (real)start[i][k];                                                           \
		for (uint64_t r = 0; r < rounds; r++) {                                                                \
			for (int i = 0; i < BODIES; i++) {                                                             \
				for (int j = i + 1; j < BODIES; j++) {                                                 \
					real x = b[i][0] - b[j][0], y = b[i][1] - b[j][1], z = b[i][2] - b[j][2];      \
					real d = x * x + y * y + z * z, m = (real)0.001 / (d * root(d));               \
                                                                                                                       \
					b[i][3] -= x * b[j][6] * m, b[j][3] += x * b[i][6] * m;                        \
					b[i][4] -= y * b[j][6] * m, b[j][4] += y * b[i][6] * m;                        \
					b[i][5] -= z * b[j][6] * m, b[j][5] += z * b[i][6] * m;                        \
				}                                                                                      \
			}                                                                                              \
			for (int i = 0; i < BODIES; i++)                                                               \
				for (int k = 0; k < 3; k++)                                                            \
					b[i][k] += (real)0.001 * b[i][k + 3];                                          \
		}                                                                                                      \
		for (int i = 0; i < BODIES; i++)                                                                       \
			for (int k = 0; k < 6; k++)                                                                    \
				sum = mix_double(sum, (double)b[i][k]);                                                \
		return sum;                                                                                            \
	}

/* The builtins: with -fno-math-errno they are the instruction, in any optimization. */
NBODY(scalar, double, __builtin_sqrt)
NBODY(x87_bodies, long double, __builtin_sqrtl)

/* --- x87: the same in extended precision, and the set of Mandelbrot, whose loop compares --- */

static uint64_t x87(uint64_t rounds)
{
	uint64_t sum = x87_bodies(rounds);

	for (uint64_t r = 0; r < rounds / 16; r++) {
		long double cx = (long double)(r % 300) / 120 - 2, cy = (long double)(r / 300 % 200) / 160 - 1, x = 0,
			    y = 0;
		int n = 0;

		for (; n < 100 && x * x + y * y < 4; n++) {
			long double t = x * x - y * y + cx;

			y = 2 * x * y + cy;
			x = t;
		}
		sum = mix(sum, (uint64_t)n);
	}
	return sum;
}

/* --- vector: products of matrices and a polynomial, by SSE2 --- */

#define N 64

typedef float v4f __attribute__((vector_size(16)));
typedef double v2d __attribute__((vector_size(16)));
typedef int64_t v2l __attribute__((vector_size(16)));

static uint64_t vector(uint64_t rounds)
{
	static v4f a[N][N / 4], b[N][N / 4], c[N][N / 4];
	v2d x = { 0.25, 0.75 }, y = { 0, 0 };
	v2l large;
	uint64_t sum = 0;

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j / 4][j % 4] = (float)(i - j) / N;
			b[i][j / 4][j % 4] = (float)(i * j % 17) / 16;
		}
	for (uint64_t r = 0; r < rounds; r++) {
		for (int i = 0; i < N; i++) {
			for (int j = 0; j < N / 4; j++) {
				v4f s = { 0, 0, 0, 0 };

				for (int k = 0; k < N; k++)
					s += (v4f){ a[i][k / 4][k % 4], a[i][k / 4][k % 4], a[i][k / 4][k % 4],
						    a[i][k / 4][k % 4] } *
					     b[k][j];
				c[i][j] = s;
			}
		}
		for (int k = 0; k < 2000; k++) {
			y = ((x * 0.125 - 0.5) * x + 0.75) * x - y / (x * x + 1.5);
			large = (y > 1.0) | (y < -1.0);
			x = (v2d)(((v2l)(y * 0.25) & large) | ((v2l)(x * 0.9375 + 0.03125) & ~large));
		}
		a[r % N][r % 16][0] += c[r % 7][r % 16][1] / 1024;
		sum = mix_double(sum, (double)c[r % N][3][2]);
		sum = mix_double(sum, y[0] + y[1]);
	}
	return sum;
}

/* --- avx2: products with FMA, and bytes and words of 256 bits --- */

typedef float v8f __attribute__((vector_size(32)));
typedef int32_t v8i __attribute__((vector_size(32)));
typedef uint32_t v8u __attribute__((vector_size(32)));
typedef uint8_t v32b __attribute__((vector_size(32)));
typedef int16_t v16s __attribute__((vector_size(32)));

static __attribute__((target("avx2,fma"))) uint64_t avx2(uint64_t rounds)
{
	static v8f a[N][N / 8], b[N][N / 8], c[N][N / 8];
	static v32b bytes[256];
	v8u hash = { 1, 2, 3, 4, 5, 6, 7, 8 };
	v16s low = { 0 };
	uint64_t sum = 0;

	for (int i = 0; i < N; i++)
		for (int j = 0; j < N; j++) {
			a[i][j / 8][j % 8] = (float)(i - j) / N;
			b[i][j / 8][j % 8] = (float)(i * j % 17) / 16;
		}
	for (int i = 0; i < 256 * 32; i++)
		bytes[i / 32][i % 32] = (uint8_t)(i * 37);
	for (uint64_t r = 0; r < rounds; r++) {
		for (int i = 0; i < N; i++) {
			for (int j = 0; j < N / 8; j++) {
				v8f s = { 0 };

				for (int k = 0; k < N; k++)
					s += a[i][k / 8][k % 8] * b[k][j];
				c[i][j] = s;
			}
		}
		for (int k = 0; k < 256; k++) {
			v32b x = bytes[k], y = bytes[(k * 7 + 3) & 255], more = (v32b)(x > y);

			bytes[k] = (((x - y) & more) | (y & ~more)) + (uint8_t)k;
			low = low * 3 + (v16s)x;
			hash = (hash ^ (v8u)(v8i)y) * 0x9e3779b1u;
			hash ^= hash >> 15 | hash << 17;
		}
		a[r % N][r % 8][0] += c[r % 7][r % 8][1] / 1024;
		sum = mix_double(sum, (double)c[r % N][3][2]);
		sum = mix(sum, hash[r % 8] + (uint16_t)low[r % 16]);
	}
	return sum;
}

const struct micro float_cases[] = {
	{ "scalar", NULL, scalar, 1500000 },
	{ "vector", NULL, vector, 1500 },
	{ "x87", NULL, x87, 200000 },
	{ "avx2", NULL, avx2, 3000 },
	{ 0 },
};
