"""`batchgauge report`: one HTML page about a job, for people without Grafana.

    ledger, batch records → facts → verdict, last_run, quality, history → page (templates, figures) → publish

Everything up to `page` is pure: what a page says depends on the facts and on nothing else.
"""
