r"""The colours of code, for light and for dark pages: few, and with a contrast of at least 4.5 to the background."""

from pygments.style import Style
from pygments.token import Comment, Generic, Keyword, Name, Number, Operator, String, Token


def colours(ink: str, soft: str, word: str, name: str, text: str, number: str) -> dict:
    """Styles of tokens: words of the language, names that are defined, texts, numbers; the rest is ink."""
    return {
        Token: ink,
        Comment: f"italic {soft}",
        Keyword: word,
        Keyword.Constant: number,
        Operator: ink,
        Operator.Word: word,
        Name.Function: f"bold {name}",
        Name.Class: f"bold {name}",
        Name.Decorator: soft,
        Name.Builtin.Pseudo: soft,
        Name.Exception: name,
        String: text,
        String.Interpol: number,
        Number: number,
        Generic.Deleted: number,
        Generic.Inserted: text,
        Generic.Prompt: soft,
        Generic.Output: ink,
    }


class Light(Style):
    background_color = "#f6f3ec"
    styles = colours("#23211d", "#6e685c", "#8a2f10", "#1d4f7c", "#3b6224", "#7a3b86")


class Dark(Style):
    background_color = "#1c1d21"
    styles = colours("#e4dfd4", "#9b958a", "#ff9d78", "#8fc1f0", "#aad08c", "#dba6e6")
