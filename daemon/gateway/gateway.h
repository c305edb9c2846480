/* SPDX-License-Identifier: Apache-2.0
 *
 * The gateway process: sockets, TLS, keys, and the engines it supervises. One thread, `loop`, runs libwebsockets and
 * everything in this folder; nothing there blocks.
 *
 *     client <-> hob_conn (connection.c, http.c, websocket.c) <-> hob_job (job.c) <-> hob_link (link.c) <-> engine
 *
 * A job is one inference. It belongs to a connection and a link, and knows each by pointer: both tell it before they
 * go. Several jobs may be the choices of one answer (choices.c). How its answer is written is a hob_format: chat,
 * completion or responses. A response has a structure of its own (responses.h), which may outlive job and connection; one
 * that runs in the background has no connection at all. */
#ifndef HOB_DAEMON_GATEWAY_GATEWAY_H
#define HOB_DAEMON_GATEWAY_GATEWAY_H

#include "daemon/conf/conf.h"
#include "daemon/conf/version.h"

/* Runs until SIGTERM or SIGINT has drained it; returns the exit status. path: what SIGHUP reads conf from again, into the
 * same place; NULL for --dev, which also ends, with an error, when its engine cannot be started at all, instead of trying
 * for ever. */
int hob_gateway_run(hob_conf *conf, const char *path);

#endif
