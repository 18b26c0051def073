// SPDX-License-Identifier: Apache-2.0

#if Tracing
import HoldfastCore
public import Tracing

/// Records lock events as spans of swift-distributed-tracing.
///
/// A span ``LockNames/acquireSpan`` covers the wait and a span ``LockNames/holdSpan`` the time the lock was held; both
/// are written when they are over, as children of the span that is current in the calling task.
public struct TracingObserver: LockObserver {
    private let tracer: (any Tracer)?

    /// Makes an observer.
    ///
    /// - Parameter tracer: Where spans go; the process' own by default, looked up at each event.
    public init(tracer: (any Tracer)? = nil) { self.tracer = tracer }

    /// Records an event.
    ///
    /// - Parameter event: What happened.
    public func observe(_ event: LockEvent) {
        switch event {
        case .acquired(let acquisition):
            self.record(LockNames.acquireSpan, lasting: acquisition.waited) { span in
                Self.describe(acquisition.grant, in: span)
                span.attributes[LockNames.lockOutcome] = acquisition.path.rawValue
            }
        case .notAcquired(let failure):
            self.record(LockNames.acquireSpan, lasting: failure.waited) { span in
                span.attributes[LockNames.resource] = failure.resource.name
                span.attributes[LockNames.lockMode] = failure.mode.description
                span.attributes[LockNames.lockOutcome] = failure.outcome.rawValue
                if failure.outcome == .failed, let error = failure.error { span.recordError(error) }
            }
        case .released(let grant, let reply, let held):
            self.record(LockNames.holdSpan, lasting: held) { span in
                Self.describe(grant, in: span)
                span.attributes[LockNames.lockOutcome] = reply.rawValue
            }
        case .converted(let grant, let waited):
            self.record(LockNames.convertSpan, lasting: waited) { span in Self.describe(grant, in: span) }
        case .renewed, .lost, .revokeRequested, .abandoned, .outlived, .cleanUpFailed, .deadlock, .signalsInterrupted:
            return
        }
    }

    private func record(_ name: String, lasting duration: Duration, _ describe: (any Span) -> Void) {
        let end = DefaultTracerClock().now.nanosecondsSinceEpoch
        let length = UInt64(max(0, duration.nanoseconds))
        let start = Moment(end > length ? end - length : 0)
        let tracer: any Tracer = self.tracer ?? InstrumentationSystem.tracer
        let span = Self.start(name, at: start, with: tracer)
        describe(span)
        span.end(at: Moment(end))
    }

    private static func start(_ name: String, at start: Moment, with tracer: some Tracer) -> any Span {
        tracer.startSpan(
            name,
            context: .current ?? .topLevel,
            ofKind: .client,
            at: start,
            function: #function,
            file: #fileID,
            line: #line
        )
    }

    private static func describe(_ grant: Grant, in span: any Span) {
        span.attributes[LockNames.resource] = grant.resource.name
        span.attributes[LockNames.lockMode] = grant.mode.description
        span.attributes[LockNames.owner] = grant.owner.description
        span.attributes[LockNames.fencingToken] = Int64(clamping: grant.fencingToken.rawValue)
    }

    /// A point of wall-clock time for a span: spans are the one place where wall-clock time is right.
    private struct Moment: TracerInstant {
        let nanosecondsSinceEpoch: UInt64

        init(_ nanosecondsSinceEpoch: UInt64) { self.nanosecondsSinceEpoch = nanosecondsSinceEpoch }

        static func < (left: Moment, right: Moment) -> Bool {
            left.nanosecondsSinceEpoch < right.nanosecondsSinceEpoch
        }
    }
}
#endif
