// SPDX-License-Identifier: Apache-2.0

public import HoldfastCore

/// The resources of a store that are not free, read page by page.
public struct Survey: AsyncSequence, Sendable {
    /// What is read.
    public typealias Element = ResourceStatus

    let store: any LockStore
    let pattern: ResourcePattern

    /// Starts from the first page.
    public func makeAsyncIterator() -> Iterator { Iterator(store: self.store, pattern: self.pattern) }

    /// Reads page by page.
    public struct Iterator: AsyncIteratorProtocol {
        private let store: any LockStore
        private let pattern: ResourcePattern
        private var page: ArraySlice<ResourceStatus> = []
        private var next: Next = .first
        /// How many places so far could not be read, since the store does not permit it to this user.
        public private(set) var hidden = 0

        private enum Next {
            case first
            case after(SurveyPage.Cursor)
            case nothing
        }

        init(store: any LockStore, pattern: ResourcePattern) {
            self.store = store
            self.pattern = pattern
        }

        /// Reads the next resource; a round trip when a page is used up.
        ///
        /// - Returns: The next resource, or `nil` at the end.
        /// - Throws: ``LockError`` when the store fails, `CancellationError` between pages.
        public mutating func next() async throws -> ResourceStatus? {
            while self.page.isEmpty {
                try Task.checkCancellation()
                let cursor: SurveyPage.Cursor?
                switch self.next {
                case .first: cursor = nil
                case .after(let last): cursor = last
                case .nothing: return nil
                }
                let page = try await self.store.survey(self.pattern, after: cursor)
                self.page = page.resources[...]
                self.hidden += page.hidden
                self.next = page.next.map(Next.after) ?? .nothing
            }
            return self.page.popFirst()
        }
    }
}
