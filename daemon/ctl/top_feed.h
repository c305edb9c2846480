/* SPDX-License-Identifier: Apache-2.0
 *
 * Looks at hobd again and again, in a thread of its own, so that a hobd that hangs or is gone holds up no screen. */
#ifndef HOB_DAEMON_CTL_TOP_FEED_H
#define HOB_DAEMON_CTL_TOP_FEED_H

#include "daemon/ctl/server.h"
#include "daemon/ctl/top_view.h"

typedef struct hob_feed hob_feed;

/* The first look begins at once, the next ones interval_ms after the last. HOB_ENOMEM, HOB_EIO. */
HOB_MUST_CHECK int hob_feed_open(const hob_server *server, uint32_t interval_ms, hob_feed **ret,
                                 hob_diag *diag);
/* Ends a look that is under way, within a fifth of a second. NULL is fine. */
void hob_feed_close(hob_feed *f);
/* Readable when there is something to take. */
int hob_feed_fd(const hob_feed *f);
/* What the last look gave: true with *ret, which is the caller's then; false with diag, or with "" there when nothing new came. */
bool hob_feed_take(hob_feed *f, hob_top_look *ret, hob_diag *diag);

#endif
