// SPDX-License-Identifier: Apache-2.0

import NIOCore
import NIOPosix
import Testing

/// A server that says what a test has it say, for what real ones do not do on demand.
final class FakeServer: Sendable {
    private let channel: any Channel
    let port: Int

    /// Starts a server.
    ///
    /// - Parameter answer: What it says to a command, as bytes of RESP.
    convenience init(_ answer: @escaping @Sendable ([String]) -> String) async throws {
        try await self.init { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Handler(answer))
            }
        }
    }

    /// Starts a server that says one line to everybody, and hangs up.
    convenience init(refusingWith line: String) async throws {
        try await self.init { channel in
            channel.eventLoop.makeCompletedFuture {
                try channel.pipeline.syncOperations.addHandler(Refusal(line))
            }
        }
    }

    private init(_ greet: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>) async throws {
        self.channel = try await ServerBootstrap(group: MultiThreadedEventLoopGroup.singleton)
            .childChannelOption(.allowRemoteHalfClosure, value: true)
            .childChannelInitializer(greet)
            .bind(host: "127.0.0.1", port: 0).get()
        self.port = try #require(self.channel.localAddress?.port)
    }

    deinit { self.channel.close(promise: nil) }

    private final class Refusal: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let line: String

        init(_ line: String) { self.line = line }

        func channelActive(context: ChannelHandlerContext) {
            context.writeAndFlush(self.wrapOutboundOut(ByteBuffer(string: self.line + "\r\n")), promise: nil)
            context.close(mode: .output, promise: nil)
        }
    }

    private final class Handler: ChannelInboundHandler {
        typealias InboundIn = ByteBuffer
        typealias OutboundOut = ByteBuffer

        private let answer: @Sendable ([String]) -> String
        private var text = ""

        init(_ answer: @escaping @Sendable ([String]) -> String) { self.answer = answer }

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            self.text += String(buffer: self.unwrapInboundIn(data))
            while let command = self.next() {
                let bytes = ByteBuffer(string: self.answer(command))
                context.writeAndFlush(self.wrapOutboundOut(bytes), promise: nil)
            }
        }

        /// A command is `*N`, and for each part `$LENGTH` and the part.
        private func next() -> [String]? {
            let lines = self.text.split(separator: "\r\n", omittingEmptySubsequences: false)
            guard let count = lines.first.flatMap({ Int($0.dropFirst()) }), lines.count > 1 + 2 * count else {
                return nil
            }
            defer { self.text = lines.dropFirst(1 + 2 * count).joined(separator: "\r\n") }
            return (1...count).map { String(lines[2 * $0]) }
        }
    }
}
