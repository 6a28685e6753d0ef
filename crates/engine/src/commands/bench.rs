//! `bench`: not here yet.

use anyhow::{Result, bail};
use bitnet_engine::config::{Bench, Config};

pub(crate) fn run(config: &Config, _: &Bench) -> Result<()> {
    config.required_model()?;
    bail!("bench is not available yet")
}
