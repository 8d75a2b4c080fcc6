"""The parts of ``bench_mail``: acceptance by SMTP, commands over IMAP, time in extensions."""
