"""Compare the variants of a model on held-out questions, and say plainly what came out.

Everything here receives answers as data; nothing runs a model.

    metrics/       one answer against its references -> a number; measure.py applies one to many answers
    bootstrap.py   numbers per question -> a mean with an interval that respects facts
    compare.py     the score table, the paired differences, the recall of retrieval
    contest.py     several contenders on one set, with significance.py
    leaks.py       what of an evaluation set was trained on
    probes.py      general questions and instructions; forgetting.py holds their answers before against after
    topics.py      results by document, kind of question and topic
    verdict.py     the differences -> a plain sentence and the variant that chat will use
    legend.py      what sets, variants and metrics are called, in plain words
    cells.py       which columns a score table has, what is best in one, how numbers are written
    report.py      the report and its schema -> one self-contained HTML file; its parts are in sections.py,
                   findings.py, accounts.py, answers.py, evidence.py, charts.py, markup.py and report.css
    table.py       the report -> a table for the terminal
    strategies.py  ways of choosing the next token, compared
    judges.py      a model as judge, in both orders; votes.py counts its preferences and people's
    bridge.py      a task for lm-evaluation-harness
"""
