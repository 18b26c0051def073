// SPDX-License-Identifier: Apache-2.0

import CZooKeeper
import HoldfastCore

/// A return code of the client library, or one of our own below -1000.
///
/// Codes that no version of the header knows are kept as they are: they are named by their number and end a call like
/// any other refusal.
struct ServerCode: RawRepresentable, Sendable, Hashable {
    let rawValue: Int32

    static let ok = ServerCode(rawValue: 0)
    static let noNode = ServerCode(rawValue: -101)
    static let noPermission = ServerCode(rawValue: -102)
    static let badVersion = ServerCode(rawValue: -103)
    static let noChildrenForEphemerals = ServerCode(rawValue: -108)
    static let nodeExists = ServerCode(rawValue: -110)
    static let notEmpty = ServerCode(rawValue: -111)
    static let sessionExpired = ServerCode(rawValue: -112)
    static let invalidACL = ServerCode(rawValue: -114)
    static let authenticationFailed = ServerCode(rawValue: -115)
    /// Another server has the session now; the call went to the one that had it.
    static let sessionMoved = ServerCode(rawValue: -118)
    static let throttled = ServerCode(rawValue: -127)
    static let connectionLoss = ServerCode(rawValue: -4)
    static let unimplemented = ServerCode(rawValue: -6)
    static let operationTimeout = ServerCode(rawValue: -7)
    static let invalidState = ServerCode(rawValue: -9)
    static let closing = ServerCode(rawValue: -116)
    /// Ours: no answer within the time of a call.
    ///
    /// It may still take effect.
    static let late = ServerCode(rawValue: -1001)
    /// Ours: there is no connection; nothing was sent.
    static let notConnected = ServerCode(rawValue: -1002)
    /// Ours: too many calls are unanswered; nothing was sent.
    static let tooManyCalls = ServerCode(rawValue: -1003)

    /// Whether the header of the client library names it.
    var isKnown: Bool {
        switch self.rawValue {
        case -9...0, -15 ... -13, -103 ... -100, -108, -124 ... -110, -127: true
        default: false
        }
    }

    /// Whether a server of the session has handled the call.
    var isAnswer: Bool { self == .ok || (-111 ... -101).contains(self.rawValue) }

    /// Whether it is certain that the call had no effect.
    ///
    /// Silence, a lost connection, and the end of the session while a call was under way leave it open; so do codes
    /// that we do not know.
    var hadNoEffect: Bool {
        switch self {
        case .notConnected, .tooManyCalls, .noPermission, .noNode, .nodeExists, .notEmpty, .badVersion, .invalidACL,
            .noChildrenForEphemerals, .authenticationFailed, .throttled, .unimplemented:
            true
        default: false
        }
    }

    /// Whether a later try may go through.
    var isPassing: Bool {
        switch self {
        case .connectionLoss, .operationTimeout, .late, .notConnected, .invalidState, .sessionExpired, .closing,
            .throttled, .sessionMoved, .tooManyCalls:
            true
        default: false
        }
    }

    /// The name for people.
    var name: String {
        switch self {
        case .late: "no answer in time"
        case .notConnected: "no connection"
        case .tooManyCalls: "too many unanswered calls"
        case .operationTimeout: "the server fell silent"
        default: unsafe zerror(self.rawValue).map { unsafe String(cString: $0) } ?? "code \(self.rawValue)"
        }
    }

    /// The error of a call.
    ///
    /// - Parameters:
    ///   - what: What was tried, for people, as in `create a node below /locks/x`.
    ///   - place: The servers, without secrets.
    /// - Returns: An error that says whether to try again.
    func error(_ what: String, at place: String) -> LockError {
        switch self {
        case .noPermission, .invalidACL:
            LockError(
                .storeRefused,
                "ZooKeeper at \(place) does not permit to \(what); give the store's URL a user that may, as in "
                    + "zookeeper://user:password@host, or a path of its own"
            )
        case .authenticationFailed:
            LockError(.storeRefused, "ZooKeeper at \(place) refused the user of the store's URL")
        default:
            self.isPassing
                ? LockError(.storeUnavailable, "could not \(what) in ZooKeeper at \(place): \(self.name)")
                : LockError(.storeRefused, "ZooKeeper at \(place) refused to \(what): \(self.name)")
        }
    }
}

/// What a server says about a node.
struct NodeStat: Sendable, Hashable {
    /// The transaction that created it; a ready fencing token.
    var created: Int64
    /// The transaction that last wrote its data.
    var modified: Int64
    /// The server's wall clock at its creation, in milliseconds; for people.
    var createdAt: Int64
    /// The session that it lives with, or 0.
    ///
    /// A credential: never shown.
    var session: Int64
    /// The version of its data.
    var version: Int32
    /// How many children it has.
    var children: Int32
}

extension NodeStat {
    /// Copies the library's.
    init(_ stat: Stat) {
        self.init(
            created: stat.czxid,
            modified: stat.mzxid,
            createdAt: stat.ctime,
            session: stat.ephemeralOwner,
            version: stat.version,
            children: stat.numChildren
        )
    }
}

/// What came of a call.
struct CallReply: Sendable {
    var code: ServerCode
    /// The path of the new node.
    var path = ""
    var stat: NodeStat?
    var data: [UInt8] = []
    var children: [String] = []
}
