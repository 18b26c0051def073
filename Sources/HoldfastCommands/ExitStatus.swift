// SPDX-License-Identifier: Apache-2.0

/// The exit codes of `holdfast`, in the manner of sysexits.h, above those of usual commands.
package enum ExitStatus {
    /// All is well.
    package static let success: Int32 = 0
    /// A check found a problem.
    package static let failure: Int32 = 1
    /// The command line was not understood.
    package static let usage: Int32 = 64
    /// Some of what was read is not what it should be.
    package static let dataError: Int32 = 65
    /// The store could not be reached or refused.
    package static let unavailable: Int32 = 69
    /// Something that must not happen.
    package static let software: Int32 = 70
    /// Output could not be written.
    package static let inputOutput: Int32 = 74
    /// The lock was not acquired in time.
    package static let notAcquired: Int32 = 75
    /// The lock was lost; the child was stopped.
    package static let lost: Int32 = 76
    /// Waiting on would have been waiting for oneself.
    package static let deadlock: Int32 = 77
    /// A setting is wrong.
    package static let configuration: Int32 = 78
    /// The command was found and could not be run, as shells say it.
    package static let notExecutable: Int32 = 126
    /// The command was not found, as shells say it.
    package static let notFound: Int32 = 127

    /// The code for an end by a signal, as shells say it.
    package static func signalled(_ signal: Int32) -> Int32 { 128 + signal }
}
