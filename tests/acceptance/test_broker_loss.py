"""The broker goes away under work: no worker dies of it, and nothing but time is lost."""

from acceptance_engine import Engine, Shape

ENGINE = Shape(nodes=2, latency="version=2")


def test_worker_survives_loss_of_redis(engine: Engine):
    """Killed with -9 while tasks run and slots are free: the same workers go on, and the survey ends well.

    This is the case in which a worker of kombu 5.7.0 ends itself when messages are not acked yet (engine-notes 2.11b);
    early ack and `workflows.broker.Channel` both stand against it.
    """
    before = engine.alive()
    with engine.begin("survey") as survey:
        engine.wait(lambda: len(engine.log(text="version", phase="begin")) == 2, 30, "both servers are being asked")

        engine.kill_broker()

        text, _ = survey.communicate(timeout=90)
    assert survey.returncode == 0, text
    assert engine.alive() == before

    again = engine.cli("survey")
    assert again.returncode == 0, again.stderr
    assert engine.alive() == before
