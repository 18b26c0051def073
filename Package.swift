// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),  // SE-0335
    .enableUpcomingFeature("MemberImportVisibility"),  // SE-0444
    .enableUpcomingFeature("InternalImportsByDefault"),  // SE-0409
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),  // SE-0461
    .enableUpcomingFeature("InferIsolatedConformances"),  // SE-0470
    .enableUpcomingFeature("ImmutableWeakCaptures"),  // SE-0481
    .treatAllWarnings(as: .error),  // SE-0480; dependencies are not ours and keep their own rules
]
// Rooms that touch C memory: every pointer use must say `unsafe` (SE-0458).
let bridge = strict + [.strictMemorySafety()]

let package = Package(
    name: "holdfast",
    platforms: [.macOS(.v15)],
    products: [
        .library(name: "HoldfastCore", targets: ["HoldfastCore"]),
        .library(name: "Holdfast", targets: ["Holdfast"]),
        .library(name: "HoldfastCache", targets: ["HoldfastCache"]),
        .library(name: "HoldfastSQLite", targets: ["HoldfastSQLite"]),
        .library(name: "HoldfastRedis", targets: ["HoldfastRedis"]),
        .library(name: "HoldfastRedisCache", targets: ["HoldfastRedisCache"]),
        .library(name: "HoldfastZooKeeper", targets: ["HoldfastZooKeeper"]),
        .library(name: "HoldfastTesting", targets: ["HoldfastTesting"]),
        .library(name: "HoldfastCommands", targets: ["HoldfastCommands"]),
        .executable(name: "holdfast", targets: ["HoldfastTool"]),
    ],
    traits: [
        .trait(name: "Logging", description: "LoggingObserver: lock events to swift-log."),
        .trait(name: "Metrics", description: "MetricsObserver, CacheMetricsObserver: to swift-metrics."),
        .trait(name: "Tracing", description: "TracingObserver: lock events to swift-distributed-tracing."),
        .trait(name: "ServiceLifecycle", description: "LockService conforms to ServiceLifecycle.Service."),
        .trait(name: "RedisTLS", description: "rediss:// with swift-nio-ssl, which compiles BoringSSL."),
        .default(enabledTraits: []),
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser.git", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections.git", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-distributed-tracing.git", from: "1.7.3"),
        .package(url: "https://github.com/apple/swift-log.git", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics.git", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio.git", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl.git", from: "2.37.6"),
        .package(url: "https://github.com/groue/GRDB.swift.git", from: "7.10.0"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle.git", from: "2.13.0"),
    ],
    targets: [
        // Values and rules; no Foundation, no NIO, no C.
        .target(
            name: "HoldfastCore",
            dependencies: [.product(name: "DequeModule", package: "swift-collections")],
            swiftSettings: strict
        ),
        // The engine.
        .target(
            name: "Holdfast",
            dependencies: [
                "HoldfastCore",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "Logging", package: "swift-log", condition: .when(traits: ["Logging"])),
                .product(name: "Metrics", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "Tracing", package: "swift-distributed-tracing", condition: .when(traits: ["Tracing"])),
                .product(
                    name: "ServiceLifecycle",
                    package: "swift-service-lifecycle",
                    condition: .when(traits: ["ServiceLifecycle"])
                ),
            ],
            swiftSettings: strict
        ),
        // The embedded store: one SQLite file for all processes of a machine.
        .target(name: "CHoldfastSQLite", linkerSettings: [.linkedLibrary("sqlite3")]),
        .target(
            name: "HoldfastSQLite",
            dependencies: [
                "HoldfastCore", "Holdfast", "CHoldfastSQLite", .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: strict
        ),
        // The Redis store: NIO carries bytes, hiredis parses replies.
        .systemLibrary(
            name: "CHiredis",
            providers: [.apt(["libhiredis-dev"]), .brew(["hiredis"])]
        ),
        .target(
            name: "CHiredisReader",
            dependencies: ["CHiredis"],
            linkerSettings: [.linkedLibrary("hiredis")]
        ),
        .target(
            name: "HoldfastRedis",
            dependencies: [
                "HoldfastCore",
                "CHiredisReader",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl", condition: .when(traits: ["RedisTLS"])),
            ],
            swiftSettings: bridge
        ),
        // The ZooKeeper store. Debian ships no .pc file for the client library; default paths do.
        .systemLibrary(name: "CZooKeeper", providers: [.apt(["libzookeeper-mt-dev"])]),
        .target(
            name: "HoldfastZooKeeper",
            dependencies: [
                "HoldfastCore",
                "CZooKeeper",
                .product(name: "Logging", package: "swift-log", condition: .when(traits: ["Logging"])),
            ],
            swiftSettings: bridge
        ),
        // Which processor a thread runs on; in the C library.
        .systemLibrary(name: "CProcessor"),
        // The cache engine; values and rules of it, and the seams to shared tiers.
        .target(
            name: "HoldfastCache",
            dependencies: [
                "CProcessor",
                "HoldfastCore",
                "Holdfast",
                .product(name: "HeapModule", package: "swift-collections"),
                .product(name: "Metrics", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "Tracing", package: "swift-distributed-tracing", condition: .when(traits: ["Tracing"])),
                .product(
                    name: "ServiceLifecycle",
                    package: "swift-service-lifecycle",
                    condition: .when(traits: ["ServiceLifecycle"])
                ),
            ],
            swiftSettings: strict
        ),
        // The shared tier and the bus of caches on Redis, apart from the locks: who only locks compiles no cache.
        .target(
            name: "HoldfastRedisCache",
            dependencies: [
                "HoldfastCore",
                "HoldfastCache",
                "HoldfastRedis",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        // Clocks, doubles, the contracts that every store and every tier keeps, and servers for tests.
        .target(
            name: "HoldfastTesting",
            dependencies: ["HoldfastCore", "Holdfast", "HoldfastCache"],
            swiftSettings: strict
        ),
        // What traces for `holdfast bench hit-ratio` are packed with. Debian's zlib has a .pc file, default paths do.
        .systemLibrary(name: "CZlib", providers: [.apt(["zlib1g-dev"])]),
        .systemLibrary(name: "CLzma", providers: [.apt(["liblzma-dev"])]),
        // The command line as a library, its process control in C, and its main.
        .target(name: "CHoldfastProcess"),
        .target(
            name: "HoldfastCommands",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastSQLite",
                "HoldfastRedis",
                "HoldfastZooKeeper",
                "HoldfastCache",
                "HoldfastRedisCache",
                "CHoldfastProcess",
                "CZlib",
                "CLzma",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
            ],
            swiftSettings: strict
        ),
        .executableTarget(name: "HoldfastTool", dependencies: ["HoldfastCommands"], swiftSettings: strict),

        .testTarget(
            name: "HoldfastCoreTests",
            dependencies: ["HoldfastCore", "HoldfastTesting"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastTests",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastTesting",
                .product(name: "Logging", package: "swift-log", condition: .when(traits: ["Logging"])),
                .product(name: "InMemoryLogging", package: "swift-log", condition: .when(traits: ["Logging"])),
                .product(name: "Metrics", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "MetricsTestKit", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "Tracing", package: "swift-distributed-tracing", condition: .when(traits: ["Tracing"])),
                .product(
                    name: "InMemoryTracing",
                    package: "swift-distributed-tracing",
                    condition: .when(traits: ["Tracing"])
                ),
                .product(
                    name: "ServiceLifecycle",
                    package: "swift-service-lifecycle",
                    condition: .when(traits: ["ServiceLifecycle"])
                ),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastSQLiteTests",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastSQLite",
                "HoldfastTesting",
                .product(name: "GRDB", package: "GRDB.swift"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastRedisTests",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastRedis",
                "HoldfastTesting",
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
            ],
            exclude: ["Partners"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastZooKeeperTests",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastZooKeeper",
                "HoldfastTesting",
                .product(name: "Logging", package: "swift-log", condition: .when(traits: ["Logging"])),
                .product(name: "InMemoryLogging", package: "swift-log", condition: .when(traits: ["Logging"])),
            ],
            exclude: ["Partners"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastCacheTests",
            dependencies: [
                "HoldfastCore",
                "Holdfast",
                "HoldfastCache",
                "HoldfastTesting",
                .product(name: "Metrics", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "MetricsTestKit", package: "swift-metrics", condition: .when(traits: ["Metrics"])),
                .product(name: "Tracing", package: "swift-distributed-tracing", condition: .when(traits: ["Tracing"])),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "HoldfastRedisCacheTests",
            dependencies: [
                "HoldfastCore", "Holdfast", "HoldfastCache", "HoldfastRedis", "HoldfastRedisCache", "HoldfastTesting",
            ],
            swiftSettings: strict
        ),
        // One suite of promises, run against every store.
        .testTarget(
            name: "StoreContractTests",
            dependencies: [
                "HoldfastCore", "Holdfast", "HoldfastSQLite", "HoldfastRedis", "HoldfastZooKeeper", "HoldfastTesting",
            ],
            swiftSettings: strict
        ),
        // The real `holdfast` binary, in real processes.
        .testTarget(
            name: "HoldfastCommandsTests",
            dependencies: [
                "HoldfastCore", "Holdfast", "HoldfastCache", "HoldfastRedis", "HoldfastRedisCache", "HoldfastCommands",
                "HoldfastTool", "HoldfastTesting",
            ],
            swiftSettings: strict
        ),
    ],
    swiftLanguageModes: [.v6]
)
