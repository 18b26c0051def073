// SPDX-License-Identifier: Apache-2.0

import Foundation

/// What kind of file system a path is on, as `/proc/self/mountinfo` names it (see proc(5)).
struct FileSystemKind: Sendable {
    /// Its name, such as `ext4`.
    let name: String

    /// Looks a path up; `nil` when it cannot be told.
    init?(of path: String) {
        var info = stat()
        guard stat(path, &info) == 0, let mounts = SmallFile.text("/proc/self/mountinfo", limit: 1 << 20) else {
            return nil
        }
        let device = UInt64(info.st_dev)
        let major = (device >> 8) & 0xFFF | (device >> 32) & ~0xFFF
        let minor = device & 0xFF | (device >> 12) & ~0xFF
        guard let name = Self.name(ofDevice: "\(major):\(minor)", in: mounts) else { return nil }
        self.name = name
    }

    /// Finds a device in the text of `mountinfo`: the type is the first word after the dash.
    static func name(ofDevice device: String, in mounts: String) -> String? {
        for line in mounts.split(separator: "\n") {
            let words = line.split(separator: " ")
            guard words.count > 3, words[2] == device, let dash = words.firstIndex(of: "-"), dash + 1 < words.count
            else { continue }
            return String(words[dash + 1])
        }
        return nil
    }

    /// Whether other machines may use the same files.
    var isNetwork: Bool {
        [
            "nfs", "nfs4", "cifs", "smb3", "smbfs", "ceph", "glusterfs", "fuse.glusterfs", "fuse.sshfs", "fuse.s3fs",
            "fuse.rclone", "afs", "lustre", "9p", "virtiofs", "vboxsf", "fuse.vmhgfs-fuse", "gfs2", "ocfs2", "beegfs",
            "gpfs",
        ].contains(self.name)
    }
}
