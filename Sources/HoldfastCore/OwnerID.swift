// SPDX-License-Identifier: Apache-2.0

/// The process that an owner lives in: what an operator needs in order to find it.
///
/// Immutable and cheap to copy.
public struct ProcessIdentity: Sendable, Hashable {
    private final class Storage: Sendable {
        let instance: UInt64
        let host: String
        let pid: Int32
        let started: UInt64
        let program: String

        init(instance: UInt64, host: String, pid: Int32, started: UInt64, program: String) {
            self.instance = instance
            self.host = host
            self.pid = pid
            self.started = started
            self.program = program
        }
    }

    private let storage: Storage

    /// Makes an identity.
    ///
    /// - Parameters:
    ///   - instance: A random number, one for each service of each process.
    ///   - host: The name of the machine.
    ///   - pid: The process id.
    ///   - started: When the process started: on Linux field 22 of `/proc/PID/stat`, in clock ticks since boot. With
    ///     the pid it tells a process from a later one that got the same pid. 0 when it is not known.
    ///   - program: The name of the program.
    public init(instance: UInt64, host: String, pid: Int32, started: UInt64, program: String) {
        self.storage = Storage(instance: instance, host: host, pid: pid, started: started, program: program)
    }

    /// A random number, one for each service of each process.
    public var instance: UInt64 { self.storage.instance }
    /// The name of the machine.
    public var host: String { self.storage.host }
    /// The process id.
    public var pid: Int32 { self.storage.pid }
    /// When the process started, in clock ticks since boot; 0 when it is not known.
    public var started: UInt64 { self.storage.started }
    /// The name of the program.
    public var program: String { self.storage.program }

    /// The process for people: `program[pid]@host`.
    package var name: String { "\(self.program)[\(self.pid)]@\(self.host)" }

    /// Compares the instances: they are random.
    public static func == (left: ProcessIdentity, right: ProcessIdentity) -> Bool { left.instance == right.instance }

    /// Hashes the instance.
    public func hash(into hasher: inout Hasher) { hasher.combine(self.instance) }
}

/// Who asks for and holds locks: one chain of work in one process.
///
/// Ownership is never a thread or a task. A scoped lock passes its owner on to what runs inside it, so that nested
/// locks belong to one owner; deadlock detection connects owners. Not a secret: it is what `holdfast ls` shows.
public struct OwnerID: Sendable, Hashable {
    /// The process.
    public let process: ProcessIdentity
    /// The number of this owner within the process' service.
    public let serial: UInt64
    /// A name that the caller gave, such as the job's.
    ///
    /// At most 128 bytes are kept, and no control characters.
    public let label: String?

    /// The most bytes of a label that are kept, since it travels with every request.
    public static let maximumLabelLength = 128

    /// Makes an owner.
    ///
    /// - Parameters:
    ///   - process: The process.
    ///   - serial: The number of this owner within the process' service.
    ///   - label: A name for people; cut to ``maximumLabelLength`` bytes, control characters removed.
    public init(process: ProcessIdentity, serial: UInt64, label: String? = nil) {
        self.process = process
        self.serial = serial
        self.label = label.map(Self.cleaned)
    }

    /// Compares process and serial; the label is for people.
    public static func == (left: OwnerID, right: OwnerID) -> Bool {
        left.serial == right.serial && left.process == right.process
    }

    /// Hashes process and serial.
    public func hash(into hasher: inout Hasher) {
        hasher.combine(self.process)
        hasher.combine(self.serial)
    }

    /// Whether a label is kept as it is.
    package static func carries(_ label: String) -> Bool {
        label.utf8.count <= Self.maximumLabelLength && label.unicodeScalars.allSatisfy(Self.isKept)
    }

    private static func isKept(_ scalar: Unicode.Scalar) -> Bool {
        scalar.value >= 0x20 && scalar.value != 0x7F && !(0x80...0x9F).contains(scalar.value)
    }

    private static func cleaned(_ label: String) -> String {
        var result = ""
        for scalar in label.unicodeScalars where Self.isKept(scalar) {
            guard result.utf8.count + UTF8.width(scalar) <= maximumLabelLength else { break }
            result.unicodeScalars.append(scalar)
        }
        return result
    }
}

extension OwnerID: CustomStringConvertible {
    /// The short id: the process' instance in hexadecimal digits, a dash, the serial.
    public var id: String { "\(Hex.text(of: self.process.instance))-\(self.serial)" }

    /// Reads what ``id`` gives.
    package static func parse(id: String) -> (instance: UInt64, serial: UInt64)? {
        let parts = id.utf8.split(separator: UInt8(ascii: "-"))
        guard parts.count == 2, let instance = Hex.word(parts[0]), let serial = UInt64(Substring(parts[1])) else {
            return nil
        }
        return (instance, serial)
    }

    /// `program[pid]@host`, and the label when there is one.
    public var description: String {
        let place = self.process.name
        return self.label.map { "\(place) (\($0))" } ?? place
    }
}

extension OwnerID: Codable {
    private enum CodingKeys: String, CodingKey {
        case id
        case host
        case pid
        case started
        case program
        case label
    }

    /// Reads an object with `id`, `host`, `pid`, `started`, `program` and perhaps `label`.
    public init(from decoder: any Decoder) throws {
        let container = try decoder.container(keyedBy: CodingKeys.self)
        let id = try container.decode(String.self, forKey: .id)
        guard let (instance, serial) = Self.parse(id: id) else {
            throw DecodingError.dataCorruptedError(forKey: .id, in: container, debugDescription: "not an owner's id")
        }
        self.init(
            process: ProcessIdentity(
                instance: instance,
                host: try container.decode(String.self, forKey: .host),
                pid: try container.decode(Int32.self, forKey: .pid),
                started: try container.decode(UInt64.self, forKey: .started),
                program: try container.decode(String.self, forKey: .program)
            ),
            serial: serial,
            label: try container.decodeIfPresent(String.self, forKey: .label)
        )
    }

    /// Writes an object with `id`, `host`, `pid`, `started`, `program` and perhaps `label`.
    public func encode(to encoder: any Encoder) throws {
        var container = encoder.container(keyedBy: CodingKeys.self)
        try container.encode(self.id, forKey: .id)
        try container.encode(self.process.host, forKey: .host)
        try container.encode(self.process.pid, forKey: .pid)
        try container.encode(self.process.started, forKey: .started)
        try container.encode(self.process.program, forKey: .program)
        try container.encodeIfPresent(self.label, forKey: .label)
    }
}
