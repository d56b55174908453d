//! Owns the sentences of e-mails, in every language. Does not know what is said between people. Invariant: each sentence exists in each
//! language.

use proto::email::EmailLanguage;

/// The sentences of one language.
pub struct Texts {
    pub lang: &'static str,
    /// Subject of missed messages, before the site's name.
    pub missed: &'static str,
    pub missed_about: &'static str,
    pub unsubscribe: &'static str,
    pub unsubscribed: &'static str,
    pub unsubscribe_ask: &'static str,
    /// Subject of messages that were left, before the visitor's name.
    pub form: &'static str,
    pub form_about: &'static str,
    pub known: &'static str,
    /// Subject of a transcript, before the site's name.
    pub transcript: &'static str,
    pub visitor: &'static str,
    pub cut: &'static str,
    pub taken_back: &'static str,
}

const ENGLISH: Texts = Texts {
    lang: "en",
    missed: "New messages from",
    missed_about: "You were away when this was written:",
    unsubscribe: "No more e-mails about missed messages:",
    unsubscribed: "You will get no more e-mails about missed messages.",
    unsubscribe_ask: "No more e-mails about missed messages",
    form: "Message from",
    form_about: "A visitor left this while the desk was closed:",
    known: "What is known of the visitor:",
    transcript: "Transcript:",
    visitor: "Visitor",
    cut: "There is more than this.",
    taken_back: "(taken back)",
};

const CHINESE: Texts = Texts {
    lang: "zh",
    missed: "您有新消息：",
    missed_about: "您离开期间收到以下消息：",
    unsubscribe: "不再接收未读消息邮件：",
    unsubscribed: "您将不再收到未读消息邮件。",
    unsubscribe_ask: "不再接收未读消息邮件",
    form: "访客留言：",
    form_about: "访客在客服下班期间留言：",
    known: "访客信息：",
    transcript: "聊天记录：",
    visitor: "访客",
    cut: "还有更多内容未显示。",
    taken_back: "（已撤回）",
};

pub fn of(language: EmailLanguage) -> &'static Texts {
    match language {
        EmailLanguage::English => &ENGLISH,
        EmailLanguage::Chinese => &CHINESE,
    }
}

/// Subject and text of an e-mail that shows whether e-mails arrive.
pub fn of_test(language: EmailLanguage) -> (&'static str, &'static str) {
    match language {
        EmailLanguage::English => ("Test e-mail", "E-mails of this site arrive."),
        EmailLanguage::Chinese => ("测试邮件", "本站点的邮件可以正常送达。"),
    }
}

/// What a visitor's page says of their language, or else the site's.
pub fn language_of(fact: Option<&str>, site: EmailLanguage) -> EmailLanguage {
    match fact.map(str::to_ascii_lowercase) {
        None => site,
        Some(fact) if fact == "zh" || fact.starts_with("zh-") || fact.starts_with("zh_") => EmailLanguage::Chinese,
        Some(_) => EmailLanguage::English,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitors_language_comes_before_the_sites() {
        use EmailLanguage::{Chinese, English};
        for (fact, site, expected) in [
            (None, Chinese, Chinese),
            (None, English, English),
            (Some("zh-CN"), English, Chinese),
            (Some("ZH"), English, Chinese),
            (Some("en-US"), Chinese, English),
            (Some("zhx"), Chinese, English),
        ] {
            assert_eq!(language_of(fact, site), expected, "{fact:?}");
        }
    }
}
