// SPDX-License-Identifier: Apache-2.0

import NIOCore

/// The only handler of a connection: bytes in, replies out to the link.
final class ReplyHandler: ChannelInboundHandler {
    typealias InboundIn = ByteBuffer

    private let link: RedisLink
    private let attempt: Int
    private let reader: ReplyReader
    private var replies: [RedisReply] = []

    init(link: RedisLink, attempt: Int) throws(ReplyReader.Failure) {
        self.link = link
        self.attempt = attempt
        self.reader = try ReplyReader()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let bytes = self.unwrapInboundIn(data)
        var failure: ReplyReader.Failure?
        unsafe bytes.withUnsafeReadableBytes { part in
            do { unsafe try self.reader.read(part, into: &self.replies) } catch {
                failure = error as? ReplyReader.Failure
            }
        }
        if !self.replies.isEmpty {
            self.link.received(self.replies, attempt: self.attempt)
            self.replies.removeAll(keepingCapacity: true)
        }
        guard let failure else { return }
        self.link.ended(.unreadable(failure), attempt: self.attempt)
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        self.link.ended(.closedByServer, attempt: self.attempt)
        context.fireChannelInactive()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        self.link.ended(TransportSecurity.failure(error) ?? .failed(NetworkFailure.words(error)), attempt: self.attempt)
        context.close(promise: nil)
    }
}
