//! What nobody is to see: passwords in URLs.

use std::borrow::Cow;

/// The same without the passwords of the URLs in it. Of `redis://user:secret@host` all that is between the first colon and the
/// last `@` is left out, so that one which should have been encoded isn't shown either. Neither is one without a host.
pub(crate) fn hide(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    for word in text.split_inclusive(char::is_whitespace) {
        match password(word) {
            Some((before, after)) => shown = shown + before + "***" + after,
            None => shown += word,
        }
    }
    if shown == text {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(shown)
    }
}

/// What is before a password, and what is after it.
fn password(word: &str) -> Option<(&str, &str)> {
    let login = word.find("://")? + "://".len();
    let at = word.rfind('@').filter(|&at| login < at);
    let has_no_user = word[login..].starts_with(':');
    let end = at.or_else(|| has_no_user.then(|| word.trim_end().len()))?;
    if word[login..].starts_with('[') {
        // What a URL is like, for people.
        return None;
    }
    let begin = login + word[login..end].find(':')? + 1;
    Some((&word[..begin], &word[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_left_out_and_nothing_else() {
        for (text, shown) in [
            ("redis://:secret@host/0", "redis://:***@host/0"),
            (
                "sh -c 'X=redis://me:a:b@c@host make'",
                "sh -c 'X=redis://me:***@host make'",
            ),
            ("redis://:secret\n", "redis://:***\n"),
            ("redis://:a/b@one,two\nrest", "redis://:***@one,two\nrest"),
        ] {
            assert_eq!(hide(text), shown);
        }
        for text in [
            "redis://host:6379/0",
            "https://git@host",
            "me@host",
            "x://[me[:pw]@]host",
            "a  b\n",
            "",
            "@x://",
        ] {
            assert_eq!(hide(text), text);
        }
    }
}
