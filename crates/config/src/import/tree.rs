//! The form that `dpvs.conf` and `keepalived.conf` share: words, blocks in braces, comments, includes.

use super::{ImportError, Place};

/// A file that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// What is in it.
    pub text: String,
}

/// Reads the files that a name or a pattern stands for; or says why not. The second argument is the name
/// of the file that names it, if one does.
pub type Read<'a> = &'a dyn Fn(&str, Option<&str>) -> Result<Vec<Source>, String>;

/// Includes nest this deep at most, so that a file that includes itself ends.
const DEPTH_MAX: usize = 16;

/// Whose file it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Grammar {
    /// `<init>` stands before what is read at start only.
    Dpvs,
    /// Words may be in quotes.
    Keepalived,
}

/// A statement, with what is in its braces if it has any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Node {
    /// Its words; the first one is its name.
    pub words: Vec<String>,
    pub place: Place,
    /// Comments above it and behind it, without their sign.
    pub comments: Vec<String>,
    pub block: Option<Vec<Node>>,
    /// Comments behind the last statement of its block.
    pub last_comments: Vec<String>,
}

impl Node {
    pub fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word behind the name.
    pub fn value(&self) -> Option<&str> {
        self.words.get(1).map(String::as_str)
    }

    /// The same where there has to be one.
    pub fn needed(&self, what: &str) -> Result<&str, ImportError> {
        self.value().ok_or_else(|| self.wrong(format!("`{}` needs {what}", self.name())))
    }

    /// The same as a value of some type.
    pub fn parsed<T: std::str::FromStr>(&self, what: &str) -> Result<T, ImportError> {
        let text = self.needed(what)?;
        text.parse().map_err(|_| self.wrong(format!("`{} {text}`: expected {what}", self.name())))
    }

    /// What is in its braces; nothing if it has none.
    pub fn children(&self) -> &[Self] {
        self.block.as_deref().unwrap_or_default()
    }

    /// The first statement of a name in its braces.
    pub fn child(&self, name: &str) -> Option<&Self> {
        self.children().iter().find(|node| node.name() == name)
    }

    pub fn wrong(&self, message: impl Into<String>) -> ImportError {
        ImportError::new(&self.place, message)
    }
}

/// Reads a file and all that it includes.
pub(super) fn parse(
    file: &str,
    grammar: Grammar,
    read: Read<'_>,
) -> Result<Vec<Node>, ImportError> {
    let start = Place { file: file.to_owned(), line: 1 };
    let sources = read(file, None).map_err(|why| ImportError::new(&start, why))?;
    let mut nodes = Vec::new();
    for source in sources {
        nodes.extend(parse_source(&source, grammar, read, DEPTH_MAX)?);
    }
    Ok(nodes)
}

fn parse_source(
    source: &Source,
    grammar: Grammar,
    read: Read<'_>,
    depth: usize,
) -> Result<Vec<Node>, ImportError> {
    let mut parser = Parser { grammar, read, depth, open: vec![Open::default()] };
    for (number, line) in (1..).zip(source.text.lines()) {
        let place = Place { file: source.name.clone(), line: number };
        parser.line(&place, line)?;
    }
    let [top] = parser.open.as_slice() else {
        let open = parser.open.get(parser.open.len() - 2).and_then(|open| open.nodes.last());
        let place = open.map_or(Place { file: source.name.clone(), line: 1 }, |n| n.place.clone());
        let name = open.map_or("", Node::name);
        let message = format!("the block `{name}` is not closed: expected `}}` before the end");
        return Err(ImportError::new(&place, message));
    };
    Ok(top.nodes.clone())
}

/// A block that is being read.
#[derive(Debug, Default)]
struct Open {
    nodes: Vec<Node>,
    comments: Vec<String>,
}

struct Parser<'a> {
    grammar: Grammar,
    read: Read<'a>,
    depth: usize,
    /// The file itself, and the blocks that are open in it.
    open: Vec<Open>,
}

/// A piece of a line.
#[derive(Debug)]
enum Token {
    Word(String),
    Open,
    Close,
    Comment(String),
}

impl Parser<'_> {
    fn line(&mut self, place: &Place, line: &str) -> Result<(), ImportError> {
        let mut words = Vec::new();
        for token in tokens(line, self.grammar).map_err(|why| ImportError::new(place, why))? {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open => {
                    self.statement(place, &mut words)?;
                    self.begin(place)?;
                }
                Token::Close => {
                    self.statement(place, &mut words)?;
                    self.end(place)?;
                }
                Token::Comment(comment) => {
                    let behind = !words.is_empty();
                    self.statement(place, &mut words)?;
                    self.comment(comment, behind);
                }
            }
        }
        self.statement(place, &mut words)
    }

    fn comment(&mut self, comment: String, behind: bool) {
        let Some(open) = self.open.last_mut() else { return };
        match open.nodes.last_mut().filter(|_| behind) {
            Some(node) => node.comments.push(comment),
            None => open.comments.push(comment),
        }
    }

    /// Ends a statement; an include is replaced by what it includes.
    fn statement(&mut self, place: &Place, words: &mut Vec<String>) -> Result<(), ImportError> {
        let mut words = std::mem::take(words);
        if self.grammar == Grammar::Dpvs && words.first().is_some_and(|word| word == "<init>") {
            words.remove(0);
        }
        let Some(name) = words.first() else { return Ok(()) };
        let Some(open) = self.open.last_mut() else { return Ok(()) };
        if name == "include" {
            let Some(pattern) = words.get(1) else {
                return Err(ImportError::new(place, "`include` needs the name of a file"));
            };
            if self.depth == 0 {
                let message = format!("`include {pattern}`: files include each other too deeply");
                return Err(ImportError::new(place, message));
            }
            let sources = (self.read)(pattern, Some(&place.file))
                .map_err(|why| ImportError::new(place, format!("`include {pattern}`: {why}")))?;
            for source in sources {
                let nodes = parse_source(&source, self.grammar, self.read, self.depth - 1)?;
                open.nodes.extend(nodes);
            }
            return Ok(());
        }
        open.nodes.push(Node {
            words,
            place: place.clone(),
            comments: std::mem::take(&mut open.comments),
            block: None,
            last_comments: Vec::new(),
        });
        Ok(())
    }

    fn begin(&mut self, place: &Place) -> Result<(), ImportError> {
        let last = self.open.last_mut().and_then(|open| open.nodes.last_mut());
        let Some(node) = last.filter(|node| node.block.is_none()) else {
            return Err(ImportError::new(place, "`{` without a name: expected a name before it"));
        };
        node.block = Some(Vec::new());
        self.open.push(Open::default());
        Ok(())
    }

    fn end(&mut self, place: &Place) -> Result<(), ImportError> {
        if self.open.len() < 2 {
            return Err(ImportError::new(place, "`}` closes nothing: expected a statement"));
        }
        let closed = self.open.pop().unwrap_or_default();
        if let Some(node) = self.open.last_mut().and_then(|open| open.nodes.last_mut()) {
            node.block = Some(closed.nodes);
            node.last_comments = closed.comments;
        }
        Ok(())
    }
}

fn tokens(line: &str, grammar: Grammar) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut word = String::new();
    let mut rest = line.chars();
    let flush = |word: &mut String, tokens: &mut Vec<Token>| {
        if !word.is_empty() {
            tokens.push(Token::Word(std::mem::take(word)));
        }
    };
    while let Some(c) = rest.next() {
        match c {
            // Within a word, as in a password, it is none.
            '!' | '#' if word.is_empty() => {
                flush(&mut word, &mut tokens);
                tokens.push(Token::Comment(rest.as_str().trim().to_owned()));
                return Ok(tokens);
            }
            '{' | '}' => {
                flush(&mut word, &mut tokens);
                tokens.push(if c == '{' { Token::Open } else { Token::Close });
            }
            '"' if grammar == Grammar::Keepalived => {
                let Some((quoted, behind)) = rest.as_str().split_once('"') else {
                    return Err("a quote is not closed: expected `\"` on the same line".to_owned());
                };
                word.push_str(quoted);
                tokens.push(Token::Word(std::mem::take(&mut word)));
                rest = behind.chars();
            }
            c if c.is_whitespace() => flush(&mut word, &mut tokens),
            c => word.push(c),
        }
    }
    flush(&mut word, &mut tokens);
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Vec<Node>, String> {
        let files = |name: &str, _: Option<&str>| match name {
            "main" => Ok(vec![Source { name: "main".into(), text: text.into() }]),
            "more" => Ok(vec![Source { name: "more".into(), text: "x 1\ny {\n z 2\n}\n".into() }]),
            "loop" => Ok(vec![Source { name: "loop".into(), text: "include loop\n".into() }]),
            _ => Err("there is no such file".to_owned()),
        };
        parse("main", Grammar::Dpvs, &files).map_err(|error| error.to_string())
    }

    #[test]
    fn blocks_comments_and_includes_are_read() {
        let text = "! top\n<init> a b { c 1 ! one\n# two\n}\ninclude more\nd\n{\ne 2 }\n";
        let nodes = read(text).unwrap();
        let names: Vec<&str> = nodes.iter().map(Node::name).collect();
        assert_eq!(names, ["a", "x", "y", "d"]);
        let [a, x, y, d] = nodes.as_slice() else { panic!() };
        assert_eq!((a.words.join(" "), &a.comments[..]), ("a b".into(), &["top".to_owned()][..]));
        assert_eq!(a.children()[0].comments, ["one"]);
        assert_eq!(a.last_comments, ["two"]);
        assert_eq!(x.place.to_string(), "more:1");
        assert_eq!(y.child("z").unwrap().place.to_string(), "more:3");
        assert_eq!(d.child("e").unwrap().parsed::<u8>("a number"), Ok(2));
        assert_eq!(d.child("e").unwrap().place.to_string(), "main:8");
    }

    #[test]
    fn what_is_broken_is_told_with_its_line() {
        for (text, told) in [
            ("a {\nb 1\n", "main:1: the block `a` is not closed: expected `}` before the end"),
            ("a 1\n}\n", "main:2: `}` closes nothing: expected a statement"),
            ("{\n}\n", "main:1: `{` without a name: expected a name before it"),
            ("\ninclude none\n", "main:2: `include none`: there is no such file"),
            ("include loop\n", "loop:1: `include loop`: files include each other too deeply"),
        ] {
            assert_eq!(read(text).unwrap_err(), told, "{text}");
        }
    }
}
