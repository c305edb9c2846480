/* SPDX-License-Identifier: Apache-2.0
 *
 * Writes safetensors files into memory, well formed or not, for tests and fuzzing. */
#ifndef HOB_TESTS_SAFETENSORS_MAKER_H
#define HOB_TESTS_SAFETENSORS_MAKER_H

#include "tests/support/gguf_maker.h"

/* A header as given, and data_bytes bytes behind it that count up from 0. */
static inline void st_file(mk *m, const char *header, size_t data_bytes)
{
    mk_u64(m, strlen(header));
    mk_bytes(m, header, strlen(header));
    for (size_t i = 0; i < data_bytes; i++)
        mk_u8(m, (uint8_t)i);
}

/* One of each readable type, of others, a scalar and an empty tensor, out of order, and metadata. */
static inline void st_everything(mk *m)
{
    st_file(m,
            "{\"__metadata__\":{\"format\":\"pt\"},"
            "\"half\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[24,32]},"
            "\"float\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},"
            "\"none\":{\"dtype\":\"I64\",\"shape\":[0,7],\"data_offsets\":[32,32]},"
            "\"brain\":{\"dtype\":\"BF16\",\"shape\":[3],\"data_offsets\":[32,38]},"
            "\"one\":{\"dtype\":\"U8\",\"shape\":[],\"data_offsets\":[46,47]},"
            "\"ids\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[38,46]}} ",
            47);
}

#endif
