//! A stand-in for Redis: takes commands, and gives every script the same answer at once.

use std::{
    io::{self, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

/// Listens until the process ends.
pub(crate) struct StandIn(SocketAddr);

impl StandIn {
    /// Answers scripts with this, and whatever else a client says with `OK`.
    pub(crate) fn answering(answer: Vec<u8>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        let answer: Arc<[u8]> = answer.into();
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let answer = Arc::clone(&answer);
                // It ends with the connection.
                thread::spawn(move || drop(converse(stream, &answer)));
            }
        });
        Self(address)
    }

    pub(crate) fn url(&self) -> String {
        format!("redis://{}", self.0)
    }
}

fn converse(stream: TcpStream, answer: &[u8]) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut writer = stream.try_clone()?;
    let mut reader = BufReader::with_capacity(1 << 20, stream);
    let (mut line, mut word) = (Vec::new(), Vec::new());
    loop {
        let Some(words) = header(&mut reader, &mut line)? else { return Ok(()) };
        let mut is_script = false;
        for place in 0..words {
            let Some(length) = header(&mut reader, &mut line)? else { return Ok(()) };
            word.resize(length + 2, 0);
            reader.read_exact(&mut word)?;
            is_script |= place == 0 && word.starts_with(b"EVALSHA");
        }
        writer.write_all(if is_script { answer } else { b"+OK\r\n" })?;
    }
}

/// The number of a line such as `*3` or `$7`; none at the end of the connection.
fn header(reader: &mut impl io::BufRead, line: &mut Vec<u8>) -> io::Result<Option<usize>> {
    line.clear();
    reader.read_until(b'\n', line)?;
    let digits = line.get(1..line.len().saturating_sub(2)).unwrap_or_default();
    Ok(std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()))
}

pub(crate) fn integer(value: i64) -> Vec<u8> {
    format!(":{value}\r\n").into_bytes()
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

pub(crate) fn array(items: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let items: Vec<Vec<u8>> = items.into_iter().collect();
    [format!("*{}\r\n", items.len()).into_bytes(), items.concat()].concat()
}
