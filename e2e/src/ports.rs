//! Free ports on loopback.
use anyhow::{Context, Result};
use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener},
    process,
    sync::atomic::{AtomicU32, Ordering},
};

/// Below the range from which Linux takes the ports of outgoing connections: there, one of the many clients of the tests
/// could take a port between our look and its use.
const FIRST: u32 = 20_000;
const LAST: u32 = 32_000;
/// Two test runs at once begin at places this far apart.
const STRIDE: u32 = 97;

/// An address on `127.0.0.1` with a port that nobody has, and that this process gives out once.
///
/// # Errors
/// All are taken.
pub fn free_address() -> Result<SocketAddr> {
    static GIVEN: AtomicU32 = AtomicU32::new(0);
    let begin = process::id().wrapping_mul(STRIDE);
    (FIRST..LAST)
        .find_map(|_| {
            let next = begin.wrapping_add(GIVEN.fetch_add(1, Ordering::Relaxed));
            let port = u16::try_from(FIRST + next % (LAST - FIRST)).ok()?;
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            TcpListener::bind(address).is_ok().then_some(address)
        })
        .with_context(|| format!("no port from {FIRST} to {LAST} is free on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        assert_ne!(free_address().unwrap(), free_address().unwrap());
    }
}
