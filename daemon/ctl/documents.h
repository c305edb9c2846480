/* SPDX-License-Identifier: Apache-2.0
 *
 * What hobctl's commands for documents share: a server's vector stores by their names, and files on their way there.
 * Thread: the command's only one. */
#ifndef HOB_DAEMON_CTL_DOCUMENTS_H
#define HOB_DAEMON_CTL_DOCUMENTS_H

#include "daemon/ctl/client.h"

enum { HOB_CTL_ID_MAX = 64 };

#define HOB_STORE_OPTION(s_)                                                                       \
    HOB_TEXT("--store", "NAME", s_, "the vector store of that name (default: default)")

/* Sends body, which is released (NULL: none), and reads the answer. HOB_EINVAL: body is NULL for want of UTF-8. */
HOB_MUST_CHECK int hob_documents_call(const hob_server *s, const char *method, const char *path,
                                      json_t *body, json_t **ret, hob_diag *diag);
typedef struct hob_ctl_collection {
    char id[HOB_CTL_ID_MAX];
    uint64_t max_file_bytes; /* that the server takes; 0: it does not say */
} hob_ctl_collection;
/* The store of this name; with make it is made when there is none. HOB_ENOENT. */
HOB_MUST_CHECK int hob_documents_store(const hob_server *s, const char *name, bool make,
                                       hob_ctl_collection *ret, hob_diag *diag);
/* Every member of a list, page by page. A negative result of visit ends it and is returned. */
typedef int hob_documents_visit(void *user, const json_t *one, hob_diag *diag);
HOB_MUST_CHECK int hob_documents_each(const hob_server *s, const char *path,
                                      hob_documents_visit *visit, void *user, hob_diag *diag);
/* Sends the file at path, of that many bytes, under `name`, which is UTF-8. */
HOB_MUST_CHECK int hob_documents_upload(const hob_server *s, const char *path, const char *name,
                                        uint64_t bytes, const volatile sig_atomic_t *stop,
                                        char ret[HOB_CTL_ID_MAX], hob_diag *diag);

#endif
