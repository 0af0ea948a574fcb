/* What one writes in C: a row at a time, xoshiro256+ and the C library's log, exp and lgamma. Built by bench_engines.py. */
#include <math.h>
#include <stdint.h>

static uint64_t s[4];
static inline uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }
static inline uint64_t next(void) {
    uint64_t result = s[0] + s[3], t = s[1] << 17;
    s[2] ^= s[0]; s[3] ^= s[1]; s[1] ^= s[2]; s[0] ^= s[3]; s[2] ^= t; s[3] = rotl(s[3], 45);
    return result;
}
static inline double uniform(void) { return ((next() >> 11) + 0.5) * 0x1.0p-53; }
static double spare; static int has_spare;
static inline double normal(void) {
    if (has_spare) { has_spare = 0; return spare; }
    double u, v, q;
    do { u = 2 * uniform() - 1; v = 2 * uniform() - 1; q = u * u + v * v; } while (q >= 1 || q == 0);
    q = sqrt(-2 * log(q) / q); spare = v * q; has_spare = 1; return u * q;
}
void seed(uint64_t key) { for (int i = 0; i < 4; i++) { key += 0x9e3779b97f4a7c15; uint64_t z = key;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9; z = (z ^ (z >> 27)) * 0x94d049bb133111eb; s[i] = z ^ (z >> 31); } }

int64_t predation(int64_t n, const double *rates, double step, int64_t records, int64_t cap, float *out) {
    double a = rates[0], b = rates[1], c = rates[2], d = rates[3]; int64_t events = 0;
    for (int64_t i = 0; i < n; i++) {
        double x = 50, y = 100, t = 0; int64_t k = 0, e = 0; float *row = out + i * records * 2;
        while (k < records) {
            double h0 = a * x * y, h1 = b * x, h2 = c * y, h3 = d * x * y, total = h0 + h1 + h2 + h3;
            if (total <= 0 || e >= cap) { while (k < records) { row[2 * k] = x; row[2 * k + 1] = y; k++; } break; }
            t -= log(uniform()) / total;
            while (k < records && k * step < t) { row[2 * k] = x; row[2 * k + 1] = y; k++; }
            double pick = uniform() * total;
            if (pick < h0) x++; else if (pick < h0 + h1) x--; else if (pick < h0 + h1 + h2) y++; else y--;
            e++;
        }
        events += e;
    }
    return events;
}
void reversion(int64_t n, int64_t steps, double k, double m, double g, float *out) {
    for (int64_t i = 0; i < n; i++) { double x = 0;
        for (int64_t t = 0; t < steps; t++) { x += 0.01 * k * (m - x) + 0.1 * g * normal();
            if (t % 10 == 9) out[i * (steps / 10) + t / 10] = x; } }
}
void langevin(int64_t n, int64_t steps, double a, double b, double c, float *out) {
    for (int64_t i = 0; i < n; i++) { double x = 50, y = 100;
        for (int64_t t = 0; t < steps; t++) {
            double z0 = normal(), z1 = normal(), h1 = a * x, h2 = b * x * y, h3 = c * y;
            double l11 = sqrt(h1 + h2 + 1e-12), l21 = -h2 / l11, l22 = sqrt(fmax(h2 + h3 - l21 * l21, 0));
            x = fmax(x + 0.01 * (h1 - h2) + 0.1 * l11 * z0, 0); y = fmax(y + 0.01 * (h2 - h3) + 0.1 * (l21 * z0 + l22 * z1), 0);
            if (t % 10 == 9) { float *p = out + (i * (steps / 10) + t / 10) * 2; p[0] = x; p[1] = y; } } }
}
void g_and_k(int64_t n, int64_t draws, double a, double b, double g, double k, float *out) {
    for (int64_t i = 0; i < n * draws; i++) { double z = normal();
        out[i] = a + b * (1 + 0.8 * tanh(0.5 * g * z)) * pow(1 + z * z, k) * z; }
}
void queue(int64_t n, int64_t customers, double low, double width, double mean, float *out) {
    for (int64_t i = 0; i < n; i++) { double arrived = 0, left = 0;
        for (int64_t t = 0; t < customers; t++) { arrived -= mean * log(uniform());
            double leaves = fmax(arrived, left) + low + width * uniform(); out[i * customers + t] = leaves - left; left = leaves; } }
}
static double poisson(double mu) { /* inversion, and Hoermann's PTRS from a mean of 10 on */
    if (mu < 10) { double e = exp(-mu), p = 1; int k = -1; do { k++; p *= uniform(); } while (p > e); return k; }
    double q = sqrt(mu), b = 0.931 + 2.53 * q, a = -0.059 + 0.02483 * b, ia = 1.1239 + 1.1328 / (b - 3.4), vr = 0.9277 - 3.6224 / (b - 2);
    for (;;) { double u = uniform() - 0.5, v = uniform(), us = 0.5 - fabs(u), k = floor((2 * a / us + b) * u + mu + 0.43);
        if (us >= 0.07 && v <= vr) return k;
        if (k < 0 || (us < 0.013 && v > us)) continue;
        if (log(v) + log(ia) - log(a / (us * us) + b) <= -mu + k * log(mu) - lgamma(k + 1)) return k; }
}
void ricker(int64_t n, int64_t steps, double r, double sigma, double phi, float *out) {
    for (int64_t i = 0; i < n; i++) { double p = 1;
        for (int64_t t = 0; t < steps; t++) { p *= exp(r - p + sigma * normal()); out[i * steps + t] = poisson(phi * p); } }
}
