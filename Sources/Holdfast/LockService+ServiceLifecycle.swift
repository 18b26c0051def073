// SPDX-License-Identifier: Apache-2.0

#if ServiceLifecycle
public import ServiceLifecycle

/// A lock service runs in a `ServiceGroup`.
///
/// List it before the services that use it: a group stops its services in reverse order, so it then ends after them.
extension LockService: Service {}
#endif
