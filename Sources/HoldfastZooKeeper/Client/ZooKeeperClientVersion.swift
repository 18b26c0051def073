// SPDX-License-Identifier: Apache-2.0

import CZooKeeper

/// The client library that this build was compiled with.
package enum ZooKeeperClientVersion {
    /// Its version, such as `3.8.0`.
    package static var text: String { ZOO_VERSION }
}
