/* SPDX-License-Identifier: Apache-2.0
 *
 * out = act(gate) * up: SiLU, or GELU in its tanh form (Hendrycks and Gimpel 2016). */
kernel void gate(global const float *g, global const float *up, global float *out, ulong count, int gelu)
{
    const size_t i = get_global_id(0);
    if (i >= count)
        return;
    const float x = g[i];
    /* 0.5 (1 + tanh(z)) = 1 / (1 + exp(-2 z)) */
    const float z = gelu ? x * (1.59576912f + 0.0713548163f * x * x) : x;
#ifdef FAULT_WRONG
    out[i] = x / (1 + exp(-z)) + up[i];
#else
    out[i] = x / (1 + exp(-z)) * up[i];
#endif
}
