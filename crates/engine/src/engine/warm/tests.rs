use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use super::super::{checkpoint, inference, language};
use super::*;
use crate::hub::LocalModel;

const MODELS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures");
/// More than a page of tokens, and not whole ones.
const PROMPT: &str = "You are a careful assistant who answers in whole sentences, says what is not known, and never makes up a name, a \
                      number or a place. Whoever asks gets an answer in the language of the question, as short as it can be. Lists have \
                      at most three points, and every point is a whole sentence that can stand alone without the others. When a question \
                      can be read in two ways, say which of them is answered, and do not answer both. Never repeat the question.";

/// A folder that is gone after its test.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("bitnet-warm-{name}-{}", std::process::id()));
        fs::remove_dir_all(&path).ok();
        Self(path)
    }

    /// The only file in it.
    fn file(&self) -> PathBuf {
        let mut files: Vec<_> = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(files.len(), 1, "{files:?}");
        files.remove(0)
    }

    fn start(&self, more: &[&str]) -> Start {
        self.start_with("nano64", PROMPT, more)
    }

    fn start_with(&self, model: &str, prompt: &str, more: &[&str]) -> Start {
        let model = format!("{MODELS}/{model}/model-i2_s.gguf");
        Start::new(&self.config(prompt, more), &checkpoint(&LocalModel::File(model.into())).unwrap())
    }

    fn config(&self, prompt: &str, more: &[&str]) -> Config {
        let usual =
            ["x", "-t", "1", "-c", "512", "--warm-prompt", prompt, "--warm-dir", self.0.to_str().unwrap()];
        Config::parse([&usual[..], more].concat()).unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

/// A program that starts: all that is there before the prompt is.
struct Start {
    inference: Inference,
    tokens: Vec<u32>,
    pages: Vec<PageId>,
    kept: KeptFile,
}

impl Start {
    fn new(config: &Config, checkpoint: &Checkpoint) -> Self {
        let (tokenizer, template) = language(config, checkpoint).unwrap();
        let tokens = tokens(config.warm.prompt(), &template, &tokenizer, 512).unwrap();
        // Not the first ones, so that numbers of pages matter.
        let pages: Vec<PageId> = (1..).take(tokens.len().div_ceil(BLOCK)).collect();
        let mut inference = inference(config, checkpoint).unwrap();
        let warm = Warm::new(&mut inference, &tokens, &pages);
        let kept = KeptFile::of(config, checkpoint, &template, &warm).unwrap();
        Self { inference, tokens, pages, kept }
    }

    /// Restores or computes; returns why it was computed, and what the pages hold then.
    fn fill(&mut self) -> (Option<String>, Vec<u8>) {
        let Self { inference, tokens, pages, kept } = self;
        let reason = match Warm::new(inference, tokens, pages).fill(kept).unwrap() {
            Filled::Restored => None,
            Filled::Computed(reason) => Some(format!("{reason:#}")),
        };
        (reason, pages.iter().flat_map(|&page| inference.page(page)).copied().collect())
    }

    fn save(&mut self) {
        let Self { inference, tokens, pages, kept } = self;
        Warm::new(inference, tokens, pages).save(kept).unwrap();
    }
}

/// A folder in which a start has left its pages, and those.
fn kept(name: &str) -> (Folder, Vec<u8>) {
    let folder = Folder::new(name);
    let mut start = folder.start(&[]);
    let (reason, pages) = start.fill();
    assert!(reason.unwrap().contains("No such file"));
    assert!(
        start.tokens.len() > BLOCK && !start.tokens.len().is_multiple_of(BLOCK),
        "{}",
        start.tokens.len()
    );
    start.save();
    (folder, pages)
}

#[test]
fn the_second_start_restores_what_the_first_has_computed() {
    let (folder, pages) = kept("restored");
    assert!(pages.iter().any(|&byte| byte != 0));
    let restored = folder.start(&[]).fill();
    assert_eq!(restored, (None, pages.clone()));
    assert_eq!(folder.file().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    // However many rows and threads compute.
    for arguments in [["--ubatch-size", "7"], ["--isa", "scalar"]] {
        assert!(folder.start(&arguments).fill() == (None, pages.clone()), "{arguments:?}");
    }
}

#[test]
fn what_is_for_something_else_is_not_used() {
    let (folder, pages) = kept("key");
    let name = folder.file();
    let template = "{% for message in messages %}{{ message['content'] | trim }}. {% endfor %}";
    for mut start in [
        folder.start(&["--chat-template", template]),
        folder.start(&["--cache-type", "f32"]),
        folder.start_with("nano64", "You are another.", &[]),
    ] {
        let (reason, found) = start.fill();
        assert!(
            reason.clone().unwrap().contains("another prompt, model, chat template or version"),
            "{reason:?}"
        );
        assert!(found != pages);
    }
    let mut other = folder.start_with("nano128", PROMPT, &[]);
    assert!(other.fill().0.unwrap().contains("No such file"));
    // A model has one file: what was of use no more does not stay.
    let mut another = folder.start_with("nano64", "You are another.", &[]);
    another.fill();
    another.save();
    assert_eq!(folder.file(), name);
    assert_eq!(folder.start_with("nano64", "You are another.", &[]).fill().0, None);
}

#[test]
fn weights_that_the_key_does_not_tell_apart_are_told_by_what_they_compute() {
    let (folder, _) = kept("weights");
    let mut bytes = fs::read(format!("{MODELS}/nano64/model-i2_s.gguf")).unwrap();
    let original_kept = folder.start(&[]).kept;
    let original = Checkpoint::from_bytes(bytes.clone().into()).unwrap();
    let tensor = original.gguf().tensor("blk.0.ffn_down.weight").unwrap();
    // Four weights of many.
    let four = &mut bytes[tensor.offset as usize + 1_000];
    *four = if *four == 0b01_01_01_01 { 0 } else { 0b01_01_01_01 };
    let mut changed = Start::new(&folder.config(PROMPT, &[]), &Checkpoint::from_bytes(bytes.into()).unwrap());
    changed.kept = original_kept;
    assert!(changed.fill().0.unwrap().contains("not what this model computes"));
}

#[test]
fn pages_that_were_forged_are_told_by_what_the_last_token_makes_of_them() {
    let (folder, pages) = kept("forged");
    let mut start = folder.start(&[]);
    start.fill();
    let first = start.pages[0];
    start.inference.page_mut(first)[..20_000].fill(0x7e);
    start.save();
    let (reason, found) = folder.start(&[]).fill();
    assert!(reason.unwrap().contains("not what this model computes"));
    assert!(found == pages);
}

#[test]
fn whatever_stands_in_its_place_the_prompt_is_computed() {
    let (folder, pages) = kept("hostile");
    let path = folder.file();
    let whole = fs::read(&path).unwrap();
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 1;
    let longer = [&whole[..], &[0]].concat();
    let write = |bytes: &[u8]| fs::write(&path, bytes).unwrap();
    let hostile: [(&dyn Fn(), &str); 9] = [
        (&|| write(&flipped), "checksum"),
        (&|| write(&whole[..whole.len() - 1]), "bytes instead of"),
        (&|| write(&longer), "bytes instead of"),
        (&|| write(&whole[..48]), "bytes instead of"),
        (&|| write(b""), "holds no pages"),
        (&|| write(&vec![0xff; whole.len()]), "holds no pages"),
        (&|| fs::create_dir(&path).unwrap(), "no regular file"),
        (&|| assert!(Command::new("mkfifo").arg(&path).status().unwrap().success()), "no regular file"),
        (&|| symlink("/dev/zero", &path).unwrap(), "no regular file"),
    ];
    for (make, part) in hostile {
        fs::remove_file(&path).ok();
        make();
        let (reason, found) = folder.start(&[]).fill();
        let reason = reason.unwrap();
        assert!(
            reason.contains(part) && reason.contains(path.to_str().unwrap()),
            "{part:?} is not in {reason}"
        );
        assert!(found == pages, "{part}");
        fs::remove_dir(&path).ok();
    }
    // What is saved takes the place of whatever was there, and a link is not followed.
    let elsewhere = folder.0.join("elsewhere");
    fs::write(&elsewhere, "mine").unwrap();
    fs::remove_file(&path).ok();
    symlink(&elsewhere, &path).unwrap();
    let mut start = folder.start(&[]);
    start.fill();
    start.save();
    assert_eq!(fs::read(&elsewhere).unwrap(), b"mine");
    assert_eq!(folder.start(&[]).fill(), (None, pages));
}

#[test]
fn what_a_start_leaves_that_was_stopped_is_removed_by_the_next_but_not_what_another_is_writing() {
    let (folder, _) = kept("leftovers");
    let path = folder.file();
    let (left, written) = (path.with_extension("1.part"), path.with_extension("2.part"));
    let other = folder.0.join("other.1.part");
    let files = [&left, &other, &written].map(|path| fs::File::create(path).unwrap());
    files[2].lock().unwrap();
    let mut start = folder.start(&[]);
    start.fill();
    start.save();
    assert_eq!([&left, &other, &written, &path].map(|path| path.exists()), [false, true, true, true]);
    assert_eq!(fs::read_dir(&folder.0).unwrap().count(), 3);
}

#[test]
fn a_folder_that_cannot_be_written_to_is_no_error() {
    let (folder, pages) = kept("folder");
    let file = folder.file();
    let below = file.join("below");
    let mut start = folder.start(&["--ubatch-size", "100"]);
    start.kept.path = Some(below.join("x.pages"));
    let (reason, found) = start.fill();
    assert!(reason.is_some() && found == pages);
    let Start { inference, tokens, pages, kept } = &mut start;
    let error = Warm::new(inference, tokens, pages).save(kept).unwrap_err();
    assert!(format!("{error:#}").contains(below.to_str().unwrap()), "{error:#}");
}

#[test]
fn a_template_that_has_no_use_for_the_prompt_is_an_error_and_so_is_a_prompt_that_leaves_no_room() {
    let checkpoint = checkpoint(&LocalModel::Demo).unwrap();
    let error = |prompt: &str, more: &[&str]| {
        let config = Config::parse([&["x", "--warm-prompt", prompt], more].concat()).unwrap();
        let (tokenizer, template) = language(&config, &checkpoint).unwrap();
        format!("{:#}", tokens(config.warm.prompt(), &template, &tokenizer, 64).unwrap_err())
    };
    let drops = "{% for message in messages %}{% if message['role'] == 'user' %}{{ message['content'] }}{% endif %}{% endfor %}";
    let refuses = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system') }}{% endif %}{{ messages[0]['content'] }}";
    assert!(error("Be kind.", &["--chat-template", drops]).contains("leaves the system prompt out"));
    let refused = error("Be kind.", &["--chat-template", refuses]);
    assert!(refused.contains("--warm-prompt") && refused.contains("no system"), "{refused}");
    let long = error(&"word ".repeat(100), &[]);
    assert!(long.contains("tokens, but the context has room for 64"), "{long}");
}

#[test]
fn what_the_prompt_leaves_is_what_conversations_begin_with_whatever_is_asked() {
    let config = Config::parse(["x", "--warm-prompt", PROMPT]).unwrap();
    let (tokenizer, template) = language(&config, &checkpoint(&LocalModel::Demo).unwrap()).unwrap();
    let tokens = tokens(config.warm.prompt(), &template, &tokenizer, 4_096).unwrap();
    let message = |role: &str, content: &str| Message { role: role.to_owned(), content: content.to_owned() };
    for question in ["Hello", "a", "  \n7", "<|eot_id|>", "\u{1f600}"] {
        let prompt = template
            .prompt(&[message("system", PROMPT), message("user", question)], true, &tokenizer)
            .unwrap();
        // The last one may grow together with the question.
        assert_eq!(prompt[..tokens.len() - 1], tokens[..tokens.len() - 1], "{question:?}");
    }
}
