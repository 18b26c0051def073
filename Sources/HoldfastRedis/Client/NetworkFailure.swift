// SPDX-License-Identifier: Apache-2.0

import Glibc
import NIOCore
import NIOPosix

/// What the network says, in words for people and not for those who wrote it.
enum NetworkFailure {
    /// The words for an error of a connection.
    static func words(_ error: any Error) -> String {
        switch error {
        case let error as NIOConnectionError:
            // An address of each kind may have been tried; one that was there says more than a name that is not known.
            if let last = error.connectionErrors.last { return self.words(last.error) }
            return "its name is not known"
        case let error as IOError: return unsafe String(cString: strerror(error.errnoCode))
        case ChannelError.connectTimeout: return "it does not answer"
        case is SocketAddressError: return "its address cannot be used"
        default: return String(describing: error)
        }
    }
}
