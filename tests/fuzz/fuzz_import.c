/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target over an import (`make fuzz`): the input's first byte chooses a file of one of two tiny models' folders,
 * the rest takes its place. Whatever it is, the import ends with a code that its header names and a diagnosis, or with a file that
 * the GGUF reader and the tokenizer take; and nothing else is left in the folder. With replay.c it runs given inputs. */
#include <dirent.h>

#include "models/import.h"
#include "models/tokenizer.h"
#include "tests/fuzz/gguf_walk.h"
#include "tests/support/hf_folder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

enum { VOCAB_TXT = HF_BERT_TEXTS, INDEX, LLAMA, CHOICES = LLAMA + HF_LLAMA_TEXTS };

static char bert[256], llama[256];
static const char *folder; /* of the two */

static void remove_folders(void)
{
    (void)hf_remove(bert);
    (void)hf_remove(llama);
}

static void move(const char *from, const char *to)
{
    char a[300], b[300];
    snprintf(a, sizeof a, "%s/%s", folder, from);
    snprintf(b, sizeof b, "%s/%s", folder, to);
    PROMISE(rename(a, b) == 0);
}

static unsigned entries(void)
{
    unsigned n = 0;
    DIR *d = opendir(folder);
    PROMISE(d);
    for (struct dirent *e; (e = readdir(d));)
        n += e->d_name[0] != '.';
    closedir(d);
    return n;
}

static void import(void)
{
    char out[300];
    hob_import_result result;
    hob_diag diag = {""};
    hob_gguf *g = NULL;
    hob_tokenizer *t = NULL;
    snprintf(out, sizeof out, "%s/out.gguf", folder);
    const unsigned before = entries();
    const hob_import_options o = {.folder = folder, .out = out, .type = HOB_TYPE_Q8_0};
    const int rc = hob_import(&o, &result, &diag);
    if (rc < 0) {
        PROMISE(rc == HOB_EFORMAT || rc == HOB_EUNSUPPORTED || rc == HOB_ENOENT || rc == HOB_EIO);
        PROMISE(diag.text[0] && entries() == before);
        return;
    }
    PROMISE(entries() == before + 1);
    PROMISE(hob_gguf_open(out, &g, &diag) == 0 && hob_tokenizer_open(g, &t, &diag) == 0);
    PROMISE(hob_gguf_tensor_count(g) == result.tensors);
    hob_tokenizer_close(t);
    hob_gguf_close(g);
    PROMISE(unlink(out) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    if (bytes < 1)
        return 0;
    if (!bert[0]) {
        PROMISE(hf_make_bert(bert) && hf_make_llama(llama));
        PROMISE(atexit(remove_folders) == 0);
    }
    const unsigned choice = data[0] % CHOICES;
    const char *name = choice == VOCAB_TXT ? "vocab.txt"
                       : choice == INDEX   ? "model.safetensors.index.json"
                       : choice >= LLAMA   ? hf_llama_texts[choice - LLAMA].name
                                           : hf_bert_texts[choice].name;
    folder = choice >= LLAMA ? llama : bert;
    /* What would be read in its place is aside meanwhile, and the weights are where the seed's index has them. */
    const char *hidden = choice == VOCAB_TXT ? "tokenizer.json"
                         : choice == INDEX   ? "model.safetensors"
                                             : name;
    const char *aside = choice == INDEX ? "w.safetensors" : "aside";
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    move(hidden, aside);
    PROMISE(hf_write(folder, name, data + 1, bytes - 1));
    import();
    PROMISE(unlink(path) == 0);
    move(aside, hidden);
    return 0;
}
