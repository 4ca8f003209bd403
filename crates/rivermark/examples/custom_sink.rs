//! A sink of one's own that publishes each row exactly once: for each checkpoint a page, which travels in the checkpoint and
//! becomes a file when that is decided. For much output, see what `FileSink` does. `cargo run --example custom_sink`

use rivermark::connector::*;
use rivermark::prelude::*;
use std::path::PathBuf;
use std::process::ExitCode;

/// A directory.
struct Pages(PathBuf);

impl Sink for Pages {
    type Writer = Writer;
    fn name(&self) -> String {
        format!("pages {}", self.0.display())
    }
    fn writer(&self, env: &Env, info: &SubtaskInfo) -> Result<Writer> {
        Ok(Writer {
            dir: self.0.clone(),
            env: env.clone(),
            subtask: info.subtask.index,
            text: String::new(),
        })
    }
}

struct Writer {
    dir: PathBuf,
    env: Env,
    subtask: u32,
    text: String,
}

impl TwoPhaseSink for Writer {
    type Row = u64;
    /// A page's name and its text.
    type Committable = (String, String);
    async fn write(&mut self, rows: Vec<u64>) -> Result<()> {
        rows.iter().for_each(|row| self.text += &format!("{row}\n"));
        Ok(())
    }
    async fn prepare(&mut self, checkpoint: CheckpointId) -> Result<Vec<(String, String)>> {
        let name = format!("{checkpoint}-{}.txt", self.subtask);
        Ok(vec![(name, std::mem::take(&mut self.text))])
    }
    /// The same page once more is the same file once more.
    async fn commit(&mut self, pages: Vec<(String, String)>) -> Result<()> {
        for (name, text) in pages {
            let published = self.publish(&name, text).await;
            published.map_err(|error| Failure::external(error.to_string()))?;
        }
        Ok(())
    }
    async fn abort_unlisted(&mut self) -> Result<()> {
        Ok(()) // Nothing is outside before its commit.
    }
}

impl Writer {
    async fn publish(&self, name: &str, text: String) -> std::io::Result<()> {
        let (files, hidden) = (self.env.files(), self.dir.join(format!(".{name}")));
        files.create_dir_all(&self.dir).await?;
        let _ = files.remove_file(&hidden).await; // of a commit that was cut off
        let mut file = files.create_new(&hidden).await?;
        file.write(text.into_bytes()).await?;
        file.sync().await?;
        files.rename(&hidden, &self.dir.join(name)).await?;
        files.sync_dir(&self.dir).await
    }
}

fn main() -> ExitCode {
    rivermark::run(|env| {
        let squares = env.sequence(1_000).uid("numbers").map(|n| n * n);
        squares.sink_to(Pages("pages".into())).uid("squares");
        Ok(())
    })
}
