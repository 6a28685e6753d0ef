//! Brings a file from the hub to its place: again after each break from where it broke, until it is whole and verified, or
//! until patience ends.

use std::path::Path;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

use super::HubFile;
use super::cache::Known;
use super::error::{Failure, HubError};
use super::partial::{Opened, Partial};
use super::progress::{Meter, Progress, Stage};
use super::remote::{Answer, Identity, Remote};

/// Bytes that make a failed attempt count as progress.
const PROGRESS: u64 = 1 << 20;

/// How long and how often to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Attempts one after the other that bring nothing.
    pub attempts: u32,
    /// Time between the first two; it doubles.
    pub first_pause: Duration,
    pub longest_pause: Duration,
    /// The longest wait that a server may ask for.
    pub longest_wait: Duration,
    /// Time to connect.
    pub connect: Duration,
    /// Time in which some byte has to come.
    pub stall: Duration,
    /// Time between two looks at what another process downloads.
    pub look: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            attempts: 6,
            first_pause: Duration::from_secs(1),
            longest_pause: Duration::from_secs(30),
            longest_wait: Duration::from_secs(600),
            connect: Duration::from_secs(10),
            stall: Duration::from_secs(30),
            look: Duration::from_secs(1),
        }
    }
}

/// One file on its way.
pub(super) struct Transfer<'a> {
    remote: &'a Remote,
    file: &'a HubFile,
    target: &'a Path,
    patience: &'a Patience,
    stages: &'a watch::Sender<Stage>,
    /// What the content has to be; known from the start, or from the hub's first answer.
    identity: Option<Identity>,
    /// Whether it was known from the start, and so cannot change.
    is_known: bool,
    partial: Option<Partial>,
}

impl<'a> Transfer<'a> {
    pub(super) fn new(
        remote: &'a Remote,
        file: &'a HubFile,
        known: Option<Known>,
        target: &'a Path,
        patience: &'a Patience,
        stages: &'a watch::Sender<Stage>,
    ) -> Self {
        let identity = known.map(|Known { size, sha256 }| Identity {
            size: Some(size),
            sha256: Some(sha256.to_owned()),
            etag: None,
        });
        Self { remote, file, target, patience, stages, identity, is_known: known.is_some(), partial: None }
    }

    /// Downloads until the file is in its place.
    pub(super) async fn run(mut self) -> Result<(), HubError> {
        let (mut attempts, mut before, mut wrong) = (0, 0, 0);
        self.show(0, None);
        loop {
            let (error, after) = match self.attempt().await {
                Ok(()) => return Ok(()),
                Err(Failure::Final(error)) => {
                    self.give_up(&error);
                    return Err(error);
                }
                Err(Failure::Passing { error, after }) => (error, after),
            };
            let length = self.partial.as_ref().map_or(0, Partial::length);
            attempts = if length >= before + PROGRESS { 1 } else { attempts + 1 };
            before = before.max(length);
            wrong += u32::from(error.is_about_content());
            let doubled = self.patience.first_pause.saturating_mul(1 << (attempts - 1).min(16));
            let pause = after.unwrap_or(doubled.min(self.patience.longest_pause));
            // Wrong content once may be a fault on the way; twice is another file.
            if attempts >= self.patience.attempts || wrong > 1 || pause > self.patience.longest_wait {
                self.give_up(&error);
                return Err(error);
            }
            warn!("{error}; trying again in {} s, from byte {length} on", pause.as_secs_f32());
            sleep(pause).await;
        }
    }

    /// One way from the hub to the file's place.
    async fn attempt(&mut self) -> Result<(), Failure> {
        let mut first = None;
        let identity = if let Some(identity) = &self.identity {
            identity.clone()
        } else {
            let answer = self.remote.get(self.file, 0).await?;
            let identity = answer.identity.clone();
            if identity.size.is_none() && identity.sha256.is_none() {
                return Err(HubError::Unknown { host: self.remote.host() }.into());
            }
            first = Some(answer);
            self.identity.insert(identity).clone()
        };
        let partial = match self.partial.take() {
            Some(partial) => Some(partial),
            None => self.open(&identity).await?,
        };
        let Some(mut partial) = partial else { return Ok(()) };
        let received = self.receive(&mut partial, &identity, first).await;
        let verified = received.and_then(|()| verify(&partial, &identity));
        match verified {
            Ok(()) => Ok(partial.finish()?),
            Err(failure) => {
                let (Failure::Passing { error, .. } | Failure::Final(error)) = &failure;
                if error.is_about_content() {
                    partial.clear()?;
                }
                if matches!(error, HubError::Replaced) && !self.is_known {
                    // The new content has another name, and so another growing file.
                    self.identity = None;
                    partial.remove();
                } else {
                    self.partial = Some(partial);
                }
                Err(failure)
            }
        }
    }

    /// The growing file; `None` when another process has finished it.
    async fn open(&self, identity: &Identity) -> Result<Option<Partial>, HubError> {
        let key = identity.sha256.as_ref().or(identity.etag.as_ref());
        let mut waiting = false;
        loop {
            // Content without a name is never continued.
            match Partial::open(self.target, key.map_or("new", String::as_str))? {
                Opened::Mine(mut partial) => {
                    if key.is_none() {
                        partial.clear()?;
                    }
                    return Ok(Some(partial));
                }
                Opened::Done => return Ok(None),
                Opened::Busy(bytes) => {
                    if !waiting {
                        info!("another process downloads this file; waiting for it");
                    }
                    waiting = true;
                    self.show(bytes, identity.size);
                    sleep(self.patience.look).await;
                }
            }
        }
    }

    /// Fills the growing file. `first` is an answer that has come already, from the beginning of the file.
    async fn receive(
        &self,
        partial: &mut Partial,
        identity: &Identity,
        first: Option<Answer>,
    ) -> Result<(), Failure> {
        let Identity { size, .. } = *identity;
        if size.is_some_and(|size| partial.length() > size) {
            partial.clear()?;
        }
        if size == Some(partial.length()) {
            return Ok(());
        }
        if let Some(size) = size {
            partial.check_room(size - partial.length())?;
        }
        let mut answer = match first {
            Some(answer) if partial.length() == 0 => answer,
            _ => self.remote.get(self.file, partial.length()).await?,
        };
        self.check(identity, &answer.identity)?;
        if answer.offset != partial.length() {
            info!("the server sends the file from byte {} on", answer.offset);
            if answer.offset != 0 {
                return Err(Failure::passing(HubError::Replaced));
            }
            partial.clear()?;
        }
        let mut meter = Meter::new(partial.length());
        while let Some(bytes) = answer.chunk(partial.length()).await? {
            if let Some(expected) = size
                && partial.length() + bytes.len() as u64 > expected
            {
                return Err(HubError::TooMany { expected }.into());
            }
            partial.write(&bytes, size)?;
            self.stages.send_replace(Stage::Downloading(meter.progress(partial.length(), size)));
        }
        match size {
            Some(size) if partial.length() < size => Err(Failure::passing(HubError::Broken {
                bytes: partial.length(),
                cause: format!("{} are missing", size - partial.length()),
            })),
            _ => Ok(()),
        }
    }

    /// Whether an answer is about the content that is wanted.
    fn check(&self, wanted: &Identity, answer: &Identity) -> Result<(), Failure> {
        if !self.is_known {
            return if wanted == answer { Ok(()) } else { Err(Failure::passing(HubError::Replaced)) };
        }
        if let (Some(expected), Some(found)) = (wanted.size, answer.size)
            && expected != found
        {
            return Err(HubError::Size { what: "the hub", expected, found }.into());
        }
        match (wanted.sha256.clone(), answer.sha256.clone()) {
            (Some(expected), Some(found)) if expected != found => {
                Err(HubError::OtherContent { expected, found }.into())
            }
            _ => Ok(()),
        }
    }

    fn show(&self, bytes: u64, total: Option<u64>) {
        self.stages.send_replace(Stage::Downloading(Progress { bytes, total, seconds_left: None }));
    }

    /// Leaves nothing that the next attempt could not use.
    fn give_up(&mut self, error: &HubError) {
        let full = matches!(error, HubError::DiskFull { .. });
        if let Some(partial) = self.partial.take_if(|partial| full || partial.length() == 0) {
            partial.remove();
        }
    }
}

/// Whether the file is a model, and the one that is wanted.
fn verify(partial: &Partial, identity: &Identity) -> Result<(), Failure> {
    partial.check_kind()?;
    let Some(expected) = identity.sha256.clone() else {
        warn!("the hub tells no sha256 of this file: only its size could be checked");
        return Ok(());
    };
    let found = partial.sum()?;
    if found == expected { Ok(()) } else { Err(Failure::passing(HubError::Checksum { expected, found })) }
}
