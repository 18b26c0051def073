// SPDX-License-Identifier: Apache-2.0

import Synchronization

/// A text that is not for people: neither `print` nor `dump` shows it.
struct Secret: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    let text: String

    /// Says that there is one.
    var description: String { "a secret" }

    /// The same as ``description``.
    var debugDescription: String { self.description }

    /// Empty.
    var customMirror: Mirror { Mirror(self, children: [:]) }
}

/// What makes two stores share a session.
struct SessionSettings: Sendable, Hashable {
    let servers: [String]
    let sessionTimeout: Duration
    /// The servers' tick, or more.
    let tick: Duration
    /// `user:password`.
    let credentials: Secret?
    /// What the servers are to make of the credentials; they end the session of a client whose scheme they do not know.
    var scheme = "digest"
    let usesCreatorACL: Bool
    /// Different for stores that want a session of their own.
    let room: UInt64

    /// The servers, for people.
    var place: String { self.servers.joined(separator: ",") }
    /// The servers, for the library: it takes the port from behind the last colon, and knows no brackets.
    var addresses: String {
        self.servers.map { $0.filter { $0 != "[" && $0 != "]" } }.joined(separator: ",")
    }

    /// What is known of the leader when a session begins: nothing.
    var contact: LeaderContact { LeaderContact(session: self.sessionTimeout, tick: self.tick) }
}

/// The sessions of this process: one for each ensemble and user, however many stores there are.
///
/// A server limits the connections from one address, to 60 unless set otherwise.
enum SessionPool {
    private struct Reference: Sendable {
        weak let session: Session?
    }

    private static let sessions = Mutex<[SessionSettings: Reference]>([:])

    /// The session for these settings, which lives as long as somebody keeps it; one that has ended for good is left to
    /// those who have it.
    static func session(for settings: SessionSettings) -> Session {
        self.sessions.withLock { sessions in
            if let session = sessions[settings]?.session, !session.isOver { return session }
            let session = Session(settings)
            sessions = sessions.filter { $0.value.session != nil }
            sessions[settings] = Reference(session: session)
            return session
        }
    }
}
