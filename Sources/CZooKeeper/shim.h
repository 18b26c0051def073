// SPDX-License-Identifier: Apache-2.0
// In zookeeper.h, THREADED reveals the synchronous calls and hides the event loop's; no struct depends on it.
#ifndef THREADED
#define THREADED 1
#endif
#include <zookeeper/zookeeper.h>

// Swift 6 refuses the mutable globals of the header.
static inline const struct ACL_vector *hf_zk_acl_open(void) { return &ZOO_OPEN_ACL_UNSAFE; }
static inline const struct ACL_vector *hf_zk_acl_creator(void) { return &ZOO_CREATOR_ALL_ACL; }
