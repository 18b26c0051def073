// SPDX-License-Identifier: Apache-2.0

/// How a lock excludes others.
public enum LockMode: Sendable, Hashable, Codable {
    /// Many may hold it at once, beside at most one ``update``.
    case shared
    /// Reads like ``shared``, at most one at a time, and may become ``exclusive``.
    case update
    /// Nobody else holds anything.
    case exclusive
    /// One of `count` permits of a semaphore. All users of one resource name the same count; the store goes by the
    /// count of the request at hand. At least 1.
    case permit(of: Int)

    /// Says whether a request of this mode can be granted beside holders of the given modes.
    ///
    /// - Parameter held: The modes of the present holders; empty when the resource is free.
    /// - Returns: Whether the request fits.
    public func isCompatible(with held: some Collection<LockMode>) -> Bool {
        switch self {
        case .exclusive: held.isEmpty
        case .shared: held.allSatisfy { $0 == .shared || $0 == .update }
        case .update: held.allSatisfy { $0 == .shared }
        case .permit(of: let count): held.count < count && held.allSatisfy(\.isPermit)
        }
    }

    /// Whether this is a permit of a semaphore.
    public var isPermit: Bool {
        if case .permit = self { true } else { false }
    }

    /// The mode without its parameter.
    public var kind: Kind {
        switch self {
        case .shared: .shared
        case .update: .update
        case .exclusive: .exclusive
        case .permit: .permit
        }
    }

    /// The name of a mode without its parameter, for capabilities and metrics.
    public enum Kind: String, Sendable, Hashable, Codable, CaseIterable {
        /// See ``LockMode/shared``.
        case shared
        /// See ``LockMode/update``.
        case update
        /// See ``LockMode/exclusive``.
        case exclusive
        /// See ``LockMode/permit(of:)``.
        case permit

        /// What is hashed: the case and not its name, since each request is checked against what its store can do.
        private var number: Int {
            switch self {
            case .shared: 0
            case .update: 1
            case .exclusive: 2
            case .permit: 3
            }
        }

        /// Hashes the case.
        public func hash(into hasher: inout Hasher) { hasher.combine(self.number) }

        /// What sets ask for: nobody outside chooses what is in them.
        public func _rawHashValue(seed: Int) -> Int { self.number ^ seed }
    }
}

extension LockMode: LosslessStringConvertible {
    /// `shared`, `update`, `exclusive` or `permit:N`.
    public var description: String {
        if case .permit(of: let count) = self { "permit:\(count)" } else { self.kind.rawValue }
    }

    /// Reads what ``description`` gives.
    public init?(_ description: String) {
        switch description {
        case "shared": self = .shared
        case "update": self = .update
        case "exclusive": self = .exclusive
        default:
            guard description.hasPrefix("permit:"), let count = Int(description.dropFirst(7)), count >= 1 else {
                return nil
            }
            self = .permit(of: count)
        }
    }

    /// Reads the mode from a single string.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.singleValueContainer()
        let text = try container.decode(String.self)
        guard let mode = LockMode(text) else {
            throw DecodingError.dataCorruptedError(in: container, debugDescription: "not a lock mode: \(text)")
        }
        self = mode
    }

    /// Writes the mode as a single string.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.singleValueContainer()
        try container.encode(self.description)
    }
}
