// SPDX-License-Identifier: Apache-2.0

/// Which records of a journal still count, and where they are: a pure value.
struct JournalBook: Sendable {
    /// A change that is not settled.
    struct Entry: Sendable {
        let key: String
        let offset: Int
        let length: Int
        var isParked = false
    }

    /// Above which size a file is written anew when most of it does not count any more, in bytes.
    static let smallestCompaction = 1 << 20

    /// Changes that are not settled, by version.
    private(set) var entries: [UInt64: Entry] = [:]
    /// The last version of each key, by its bytes: text that only looks alike is another key.
    private var versions: [[UInt8]: UInt64] = [:]
    /// The highest version that was ever there.
    private(set) var highestVersion: UInt64
    /// How long the records are that count, in bytes.
    private(set) var liveBytes = 0

    /// Nothing is there.
    init(highestVersion: UInt64 = 0) { self.highestVersion = highestVersion }

    /// Takes note of a record.
    mutating func add(_ record: JournalRecord, offset: Int, length: Int) {
        switch record.kind {
        case .set, .remove:
            self.highestVersion = max(self.highestVersion, record.version)
            // Of one key the last change counts, wherever it is.
            let key = Array(record.key.utf8)
            if let old = self.versions[key] {
                guard old <= record.version else { return }
                self.drop(old)
            }
            self.entries[record.version] = Entry(key: record.key, offset: offset, length: length)
            self.versions[key] = record.version
            self.liveBytes += length
        case .settled: self.drop(record.version)
        case .parked: self.entries[record.version]?.isParked = true
        }
    }

    private mutating func drop(_ version: UInt64) {
        guard let entry = self.entries.removeValue(forKey: version) else { return }
        self.liveBytes -= entry.length
        let key = Array(entry.key.utf8)
        if self.versions[key] == version { self.versions[key] = nil }
    }

    /// Whether a file of so many bytes should be written anew.
    func wantsCompaction(_ size: Int) -> Bool {
        size >= Self.smallestCompaction && self.liveBytes < size / 2
    }
}
