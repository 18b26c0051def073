// SPDX-License-Identifier: Apache-2.0

#if Logging
public import Logging

extension ZooKeeperLog {
    /// Passes the library's lines on to a logger, with `zookeeper` in their metadata.
    ///
    /// - Parameters:
    ///   - logger: Gets the lines.
    ///   - level: The least important lines that are wanted.
    public static func forward(to logger: Logger, upTo level: Level = .warning) {
        Self.observe(upTo: level) { level, text in
            let logLevel: Logger.Level =
                switch level {
                case .error: .error
                case .warning: .warning
                case .info: .info
                }
            logger.log(level: logLevel, "\(text)", metadata: ["component": "zookeeper"])
        }
    }
}
#endif
