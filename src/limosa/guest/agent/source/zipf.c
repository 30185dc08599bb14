/* Random numbers, and Zipf-distributed ranks by rejection-inversion.
 *
 * W. Hörmann, G. Derflinger, "Rejection-inversion to generate variates from monotone discrete
 * distributions", ACM Transactions on Modeling and Computer Simulation 6(3), 1996, pp. 169-184.
 * The names follow the paper: h(x) = x^-s, H its integral, u drawn between H(1.5) - h(1) and H(n + 0.5). */
#include "agent.h"

#include <math.h>

uint64_t random_u64(uint64_t *state)
{
    *state += 0x9e3779b97f4a7c15ull;
    return mix64(*state);
}

double random_unit(uint64_t *state)
{
    return (double)(random_u64(state) >> 11) * 0x1.0p-53;
}

uint64_t random_below(uint64_t *state, uint64_t count)
{
    return (uint64_t)((unsigned __int128)random_u64(state) * count >> 64);
}

/* H(x) = (x^(1-s) - 1) / (1 - s), and log x for s = 1; expm1 keeps it exact near s = 1. */
static double integral(double x, double s)
{
    double t = (1.0 - s) * log(x);
    return fabs(t) < 1e-12 ? log(x) : expm1(t) / (1.0 - s);
}

static double integral_inverse(double y, double s)
{
    double t = (1.0 - s) * y;
    if (t < -1.0)
        t = -1.0; /* rounding at the upper end */
    return fabs(t) < 1e-12 ? exp(y) : exp(log1p(t) / (1.0 - s));
}

void zipf_start(struct zipf *zipf, uint64_t count, double exponent)
{
    zipf->count = count;
    zipf->exponent = exponent;
    zipf->h_first = integral(1.5, exponent) - 1.0;
    zipf->h_last = integral((double)count + 0.5, exponent);
    zipf->shortcut =
        2.0 - integral_inverse(integral(2.5, exponent) - pow(2.0, -exponent), exponent);
}

uint64_t zipf_draw(const struct zipf *zipf, uint64_t *random_state)
{
    for (;;) {
        double u = zipf->h_last + random_unit(random_state) * (zipf->h_first - zipf->h_last);
        double x = integral_inverse(u, zipf->exponent);
        double k = floor(x + 0.5);
        if (k < 1.0)
            k = 1.0;
        else if (k > (double)zipf->count)
            k = (double)zipf->count;
        if (k - x <= zipf->shortcut
            || u >= integral(k + 0.5, zipf->exponent) - pow(k, -zipf->exponent))
            return (uint64_t)k;
    }
}
