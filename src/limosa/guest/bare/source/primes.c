/* One event of the processor benchmark: count the primes from 3 to below a limit by trial division.
 *
 * It does the same divisions as one event of `sysbench cpu` (64-bit, every divisor from 2 up to the root), with
 * the root kept as a whole number so that no floating point is needed. The object file made of this is linked
 * into the guest and into the host program alike: the machine code that is compared is the same, byte for byte.
 */
#include <stdint.h>

uint64_t count_primes(uint64_t limit);

uint64_t count_primes(uint64_t limit)
{
    uint64_t primes = 0;
    uint64_t root = 1;

    for (uint64_t candidate = 3; candidate < limit; candidate++) {
        uint64_t divisor = 2;

        while ((root + 1) * (root + 1) <= candidate)
            root++;
        while (divisor <= root && candidate % divisor != 0)
            divisor++;
        if (divisor > root)
            primes++;
    }
    return primes;
}
