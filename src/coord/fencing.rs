//! What a resource does with fencing tokens.

/// Refuses what comes from a holder that has been succeeded already.
///
/// It remembers the greatest token that it has seen, after Martin Kleppmann's *How to do distributed locking* (2016). It
/// protects a resource only where it *is* part of the resource: the number has to lie there, and to be compared in the
/// transaction that does the work. In SQL that is one more condition:
///
/// ```sql
/// UPDATE report SET text = :text, token = :token WHERE id = :id AND token <= :token
/// ```
///
/// A gate in the memory of a process protects what lies in the memory of that process, such as a connection that all
/// its clients write through. For permits there has to be one for each [slot](super::Permit::slot); shared locks can't be
/// fenced in this way.
///
/// # Examples
///
/// ```
/// use hapax::coord::FencingGate;
///
/// let mut gate = FencingGate::default();
/// assert_eq!(gate.admit(33), Ok(()));
/// assert_eq!(gate.admit(34), Ok(()));
/// // That holder was stopped for so long that its lease has ended, and doesn't know it.
/// assert_eq!(gate.admit(33).unwrap_err().greatest, 34);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FencingGate {
    greatest: u64,
}

impl FencingGate {
    /// One that refuses everything below that token, which was stored.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::FencingGate;
    ///
    /// assert!(FencingGate::from_token(34).admit(33).is_err());
    /// ```
    pub fn from_token(greatest: u64) -> Self {
        Self { greatest }
    }

    /// The greatest token that was admitted, or that it began with.
    ///
    /// # Examples
    ///
    /// ```
    /// use hapax::coord::FencingGate;
    ///
    /// let mut gate = FencingGate::default();
    /// gate.admit(33)?;
    /// assert_eq!(gate.token(), 33);
    /// # Ok::<_, hapax::coord::StaleTokenError>(())
    /// ```
    pub fn token(&self) -> u64 {
        self.greatest
    }

    /// Lets a holder in, unless a later one was here before.
    ///
    /// # Errors
    ///
    /// If a greater token was admitted.
    ///
    /// # Examples
    ///
    /// See [`FencingGate`].
    pub fn admit(&mut self, token: u64) -> Result<(), StaleTokenError> {
        if token < self.greatest {
            return Err(StaleTokenError {
                token,
                greatest: self.greatest,
            });
        }
        self.greatest = token;
        Ok(())
    }
}

/// That a later holder was here before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StaleTokenError {
    /// The token that was refused.
    pub token: u64,
    /// The greatest one.
    pub greatest: u64,
}

impl std::fmt::Display for StaleTokenError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "token {} was succeeded by {}", self.token, self.greatest)
    }
}

impl std::error::Error for StaleTokenError {}
