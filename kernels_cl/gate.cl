/* SPDX-License-Identifier: Apache-2.0
 *
 * out = act(gate) * up, or act(gate), where no linear reads it at once: norm.cl's kernels do it by the way. */
kernel void gate(global const float *g, global const float *up, global float *out, ulong count, int act,
                 int has_up)
{
    const size_t i = get_global_id(0);
    if (i < count)
        out[i] = gated(g[i], has_up ? up[i] : 1, act);
}
