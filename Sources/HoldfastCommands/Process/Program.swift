// SPDX-License-Identifier: Apache-2.0

import CHoldfastProcess
import Glibc

/// This program, started again as a worker.
package enum Program {
    /// Starts this program with other arguments, under guard: it ends when we do.
    ///
    /// - Parameters:
    ///   - arguments: The arguments. Secrets do not belong here.
    ///   - store: The store's URL, which goes into the environment.
    ///   - deadline: When the worker is killed, in boot time.
    /// - Returns: The running worker.
    /// - Throws: ``CommandFailure`` when no process can be made.
    package static func worker(_ arguments: [String], store: String, deadline: Int64 = .max) throws -> GuardedChild {
        let others = ChildEnvironment.inherited().filter { $0.name != "HOLDFAST_STORE" }
        return try GuardedChild(
            (["/proc/self/exe"] + arguments).map { CText($0) },
            environment: others + [CText("HOLDFAST_STORE=\(store)")],
            deadline: deadline
        )
    }
}
