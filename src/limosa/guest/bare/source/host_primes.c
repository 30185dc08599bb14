/* The host's side of the processor benchmark: the guest's own object file in an ordinary program.
 *
 *     host_primes SECONDS [LIMIT [REPORT]]
 *
 * It prints the guest's lines, so that one parser reads both; the reader's clock gives the rate.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

uint64_t count_primes(uint64_t limit);

static double now_s(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

int main(int count, char **arguments)
{
    double until_s = now_s() + (count > 1 ? atof(arguments[1]) : 0);
    uint64_t limit = count > 2 ? strtoull(arguments[2], NULL, 10) : 10000;
    uint64_t report = count > 3 ? strtoull(arguments[3], NULL, 10) : 100;

    if (count < 2 || limit < 3 || report == 0) {
        fprintf(stderr, "usage: host_primes SECONDS [LIMIT [REPORT]]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    printf("bare: ready mode=primes memory_mib=0 lines=0 report=%llu limit=%llu\n", (unsigned long long)report,
           (unsigned long long)limit);
    for (uint64_t events = 1; now_s() < until_s; events++) {
        uint64_t primes = count_primes(limit);

        if (events % report == 0)
            printf("bare: events=%llu primes=%llu tsc=%llu\n", (unsigned long long)events,
                   (unsigned long long)primes, (unsigned long long)__builtin_ia32_rdtsc());
    }
    printf("bare: stopped\n");
    return 0;
}
