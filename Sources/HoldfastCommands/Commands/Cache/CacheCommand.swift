// SPDX-License-Identifier: Apache-2.0

package import ArgumentParser

/// `holdfast cache`.
package struct CacheCommand: AsyncParsableCommand {
    /// What `--help` says.
    package static let configuration = CommandConfiguration(
        commandName: "cache",
        abstract: "Look at the entries that services share, and change them.",
        discussion: """
            holdfast cache ls products
            holdfast cache get products 42
            holdfast cache explain products 42      why services get it, or not
            holdfast cache invalidate products --tag shop/7

            Works on one Redis, a Sentinel's master or a cluster: --store redis://HOST or $HOLDFAST_STORE. What is \
            changed here is told to running services at once, as if one of them had changed it.
            """,
        subcommands: [
            CacheGetCommand.self, CacheSetCommand.self, CacheRemoveCommand.self, CacheInvalidateCommand.self,
            CacheListCommand.self, CacheStatsCommand.self, CacheExplainCommand.self, CacheWarmCommand.self,
        ]
    )

    /// Makes the command, for the parser.
    package init() {}
}
